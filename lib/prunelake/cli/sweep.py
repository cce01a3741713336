"""`prunelake sweep`: evaluate a model."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from prunelake.cli.console import (
    REFERENCE_HELP,
    ExplainRowsOption,
    LakeOption,
    OperatorsOption,
    SeedsOption,
    SpecialTokensOption,
    TextRowsOption,
    TextTokensOption,
    load_settings,
    parse_numbers,
    parse_strategy,
    text_fields,
)
from prunelake.cli.evaluate import evaluate, evaluate_until_decided
from prunelake.errors import InvalidSpec, one_line, validation_message
from prunelake.explanation_spec import METHOD_CHOICES
from prunelake.lake.storage.location import parse_location
from prunelake.schema.metrics import DEFAULT_MARGIN
from prunelake.spec import (
    DEFAULT_MODEL,
    DEFAULT_NEW_TOKENS,
    SweepSpec,
    task_name,
)
from prunelake.strategy_spec import DEFAULT_SEARCH_ROWS, strategies_that
from prunelake.yaml_file import validate_yaml

LAYER_STRATEGIES = strategies_that(lambda known: known.orders_layers)
EXPERT_STRATEGIES = [f"expert:{name}" for name in strategies_that(lambda s: s.orders_experts)]
SEARCHING_STRATEGIES = strategies_that(lambda known: known.reads == "rows")


class Until(StrEnum):
    """The end of a sweep that adds rows in rounds."""

    decided = "decided"


def sweep(
    context: typer.Context,
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="A YAML file with a sweep spec.")
    ] = None,
    model: Annotated[str, typer.Option(help=REFERENCE_HELP)] = DEFAULT_MODEL,
    task: Annotated[
        str | None,
        typer.Option(
            help="Task, the path of a task's .yaml file, or harness:NAME for a task of "
            "lm-evaluation-harness (harness:NAME@5 has 5 examples in each prompt)."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="100, sample:100:SEED, numbers:3,5,8 or a JSON file of row numbers "
            "[the first 100, or all of a smaller task; with --until a sample of 100]."
        ),
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="0,4,8; default: every level up to half of the layers.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help=f"{METHOD_CHOICES}, or none."),
    ] = "difference_shap",
    seeds: SeedsOption = "0",
    operators: OperatorsOption = "delete_text,replace",
    explain_rows: ExplainRowsOption = None,
    explain_levels: Annotated[
        str | None, typer.Option(help="Explain only at these levels.")
    ] = None,
    bounds_beam: Annotated[
        int | None,
        typer.Option(help="Search for the least and greatest AOPC with a beam of this width."),
    ] = None,
    text_rows: TextRowsOption = None,
    text_tokens: TextTokensOption = DEFAULT_NEW_TOKENS,
    strategy: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(LAYER_STRATEGIES)}, or random:SEED. For MLPs or whole blocks: "
            f"mlp:cosine, block:cosine, ...; for experts: {', '.join(EXPERT_STRATEGIES)}."
        ),
    ] = "cosine",
    search_rows: Annotated[
        int,
        typer.Option(
            min=1,
            help=f"Rows of the task on which {' and '.join(SEARCHING_STRATEGIES)} search for the "
            "order.",
        ),
    ] = DEFAULT_SEARCH_ROWS,
    calibration: Annotated[
        str,
        typer.Option(help="Text that decides the order: bundled, c4, or a .txt or .jsonl file."),
    ] = "bundled",
    dtype: Annotated[
        str, typer.Option(envvar="PRUNELAKE_DTYPE", help="The number format.")
    ] = "float32",
    special_tokens: SpecialTokensOption = "tokenizer",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with the model.")
    ] = False,
    until: Annotated[
        Until | None,
        typer.Option(help="decided: add rows in rounds until every verdict is decided."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="With --until: the smallest change that matters.")
    ] = DEFAULT_MARGIN,
    max_rows: Annotated[int | None, typer.Option(help="With --until: stop at n rows.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="With --until: start no round that would exceed n minutes.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Evaluate one model on one task at every removal level.

    With `--until decided` the sweep begins with a pilot of --rows [sample:100] and --explain-rows
    [24], and adds rows until accuracy, ECE and explanations are decided at every level or a limit
    is reached. Its verdicts allow for the repeated looks.
    """
    settings = load_settings(lake)
    texts = text_fields(text_rows, text_tokens)
    _refuse_ignored_options(context)
    if until is None and (max_rows, max_minutes, margin) != (None, None, DEFAULT_MARGIN):
        raise InvalidSpec("--margin, --max-rows and --max-minutes need --until decided")
    if spec is not None:
        _refuse_options_with_file(context, spec)
        sweep_spec = _read_spec(spec)
    elif task is None:
        raise InvalidSpec("give a spec file or --task; `prunelake sweep --help` lists the options")
    else:
        from prunelake.tasks.row_selection import parse_rows

        fields: dict[str, Any] = {
            "model": model,
            "task": task,
            "rows": {} if rows is None else parse_rows(rows, task_name(task)),
            "levels": parse_numbers(levels),
            "strategy": parse_strategy(strategy).model_dump() | {"search_rows": search_rows},
            "calibration": {"source": calibration},
            "dtype": dtype,
            "special_tokens": special_tokens,
            "trust_remote_code": trust_remote_code,
            "texts": texts,
            "explain": None
            if methods == "none"
            else {
                "methods": methods.split(","),
                "seeds": parse_numbers(seeds),
                "operators": operators.split(","),
                "rows": explain_rows,
                "levels": parse_numbers(explain_levels),
                "bounds_beam": bounds_beam,
            },
        }
        sweep_spec = _validate_options(fields)
    if until is None:
        run_id = evaluate(sweep_spec, settings)
    else:
        from prunelake.sweeps.until_decided.run import Limits

        limits = Limits(margin=margin, max_rows=max_rows, max_minutes=max_minutes)
        last = evaluate_until_decided(sweep_spec, limits, settings)[-1]
        typer.echo(f"{last.outcome(limits.margin)}\n")
        run_id = last.run_id
    from prunelake.cli.text.terminal import print_summary  # a refusal needs none of its imports

    print_summary(settings.lake, [run_id], lake_option=lake)


def _given(context: typer.Context) -> dict[str, Any]:
    """The parameters that the user wrote on the command line."""
    return {
        name: value
        for name, value in context.params.items()
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse_ignored_options(context: typer.Context) -> None:
    """Refuse an option that has no effect with the other options."""
    given = _given(context)
    if given.get("methods") == "none":
        names = ("seeds", "operators", "explain_rows", "explain_levels", "bounds_beam")
        if ignored := [_option(name) for name in names if name in given]:
            raise InvalidSpec(
                f"{', '.join(ignored)} with --methods none: nothing is explained; leave one out"
            )
    strategy = parse_strategy(context.params["strategy"])
    if "search_rows" in given and not strategy.reads_rows:
        raise InvalidSpec(
            f"--search-rows with --strategy {strategy.label}: this order searches no rows of the "
            "task; leave one out"
        )
    if "calibration" in given and not strategy.reads_text:
        raise InvalidSpec(
            f"--calibration with --strategy {strategy.label}: this order reads no text; leave one "
            "out"
        )


def _refuse_options_with_file(context: typer.Context, spec: str) -> None:
    allowed = ("spec", "lake", "until", "margin", "max_rows", "max_minutes")
    given = [_option(name) for name in _given(context) if name not in allowed]
    if given:
        raise InvalidSpec(f"{', '.join(given)} with {spec}: write it into the file instead")


def _read_spec(file: str) -> SweepSpec:
    try:
        # `doctor --quarantine` leaves specs in the lake, beside the moved files.
        text = parse_location(file).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{file}: cannot be read ({one_line(error)})") from error
    return validate_yaml(text, SweepSpec, file, example="task: everyday_knowledge")


def _validate_options(fields: Any) -> SweepSpec:
    try:
        return SweepSpec.model_validate(fields)
    except ValidationError as error:
        problems = error.errors()
        places = [problem["loc"] for problem in problems]
        # A tuple with a wrong item also counts as too short.
        first = [p for p in problems if not any(p["loc"] == loc[:-1] for loc in places)]
        raise InvalidSpec(validation_message(first, name_of=_option_with_value)) from error


def _option_with_value(problem: Mapping[str, Any]) -> str:
    """The option and the value in a problem of pydantic: `--seeds -1`."""
    names = [name for name in problem["loc"] if isinstance(name, str)]
    if names[0] == "texts" and len(names) > 1:
        names = [{"rows": "text_rows", "new_tokens": "text_tokens"}[names[1]]]
    if names[:2] in (["explain", "rows"], ["explain", "levels"]):
        names = [f"explain_{names[1]}"]
    name, *fields = names[1:] if names[0] == "explain" and len(names) > 1 else names
    return " ".join([_option(name), *fields, str(problem["input"])])
