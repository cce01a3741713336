"""`prunelake compare`: candidates beside a baseline."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from prunelake.cli.console import (
    ExplainRowsOption,
    LakeOption,
    OperatorsOption,
    SeedsOption,
    SpecialTokensOption,
    TextRowsOption,
    TextTokensOption,
    load_settings,
    parse_numbers,
    text_fields,
)
from prunelake.cli.evaluate import evaluate
from prunelake.errors import InvalidSpec, validation_message
from prunelake.explanation_spec import COMPARISON_METHOD_CHOICES
from prunelake.spec import DEFAULT_NEW_TOKENS, task_name


def compare(
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="[LABEL=]REFERENCE[,NAME=VALUE...]; the names are dtype, level, strategy.",
        ),
    ],
    candidates: Annotated[
        list[str], typer.Argument(metavar="CANDIDATE...", help="In the same form.")
    ],
    task: Annotated[str, typer.Option(help="As in `prunelake sweep`.")],
    rows: Annotated[
        str | None, typer.Option(help="100, sample:100:SEED, numbers:3,5,8 or a JSON file.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help=f"{COMPARISON_METHOD_CHOICES}, or none.")
    ] = "leverage_shap",
    seeds: SeedsOption = "0",
    operators: OperatorsOption = "delete_text,replace",
    explain_rows: ExplainRowsOption = None,
    text_rows: TextRowsOption = None,
    text_tokens: TextTokensOption = DEFAULT_NEW_TOKENS,
    calibration: Annotated[
        str, typer.Option(help="Text for the removal order of candidates with a level.")
    ] = "bundled",
    special_tokens: SpecialTokensOption = "tokenizer",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with the models.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Compare candidates with a baseline on the same examples.

    All models get the same rows, prompts and masks.

    A candidate is any model that loads: quantised, merged, distilled, exported, or the baseline
    with parts removed. Example: prunelake compare hub:org/base int8=./base-int8
    pruned=hub:org/base,level=4 --task arc_easy --rows 400 --explain-rows 100
    """
    from prunelake.comparison.run import run_comparison
    from prunelake.comparison_spec import ComparisonSpec
    from prunelake.tasks.row_selection import parse_rows

    settings = load_settings(lake)
    explain = {
        "methods": methods.split(","),
        "seeds": parse_numbers(seeds),
        "operators": operators.split(","),
        "rows": explain_rows,
    }
    fields: dict[str, Any] = {
        "baseline": baseline,
        "candidates": candidates,
        "task": task,
        "rows": {} if rows is None else parse_rows(rows, task_name(task)),
        "explain": None if methods == "none" else explain,
        "texts": text_fields(text_rows, text_tokens),
        "calibration": {"source": calibration},
        "special_tokens": special_tokens,
    }
    try:
        spec = ComparisonSpec.model_validate(fields)
    except ValidationError as error:
        raise InvalidSpec(validation_message(error.errors())) from error
    if trust_remote_code:
        trusted = [m.model_copy(update={"trust_remote_code": True}) for m in spec.variants]
        spec = spec.model_copy(update={"baseline": trusted[0], "candidates": tuple(trusted[1:])})
    run_id = run_comparison(spec, settings, lambda sweep: evaluate(sweep, settings))
    from prunelake.cli.text.comparison_table import print_comparison

    print_comparison(settings.lake, run_id, lake_option=lake)
