"""`prunelake import`: bring results that were measured elsewhere into the lake."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.cli.import_files import labelled_files, logs_of_options, split_option
from prunelake.errors import InvalidSpec
from prunelake.explanation_spec import AopcVariant, Operator
from prunelake.lake.storage.location import Location

if TYPE_CHECKING:
    from prunelake.cli.import_files import Logs

    LogImport = Callable[[Location, Logs, str | None, str, str | None], tuple[str, bool]]

NO_EXAMPLES_WARNING = (
    "A table has no examples: its differences and correlations get no interval and no test, and "
    "its levels get no verdict."
)

import_app = typer.Typer(
    help="Import results that were measured elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
PathArgument = Annotated[Path | None, typer.Argument(help="The log of the unpruned model.")]
LevelOption = Annotated[
    list[str] | None,
    typer.Option("--level", help="LEVEL=PATH, the log of a level; repeat it for each level."),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(metavar="LABEL=PATH", help="In place of levels: the log of the unchanged model."),
]
CandidateOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL=PATH[,dtype=D,model=M,revision=R]",
        help="The log of a changed model; repeat it for each candidate.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The name of the model [the name in the log].")
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help="The strategy that chose the layers, if known.")
]


TaskOption = Annotated[
    str | None, typer.Option("--task", help="The task, if a folder has logs of several.")
]


def _import_harness(
    lake: Location, logs: "Logs", model: str | None, strategy: str, task: str | None
) -> tuple[str, bool]:
    from prunelake.imports.harness import import_harness

    return import_harness(lake, logs, model, strategy, task)


def _import_inspect(
    lake: Location, logs: "Logs", model: str | None, strategy: str, task: str | None
) -> tuple[str, bool]:
    from prunelake.imports.inspect_log import import_inspect

    if task is not None:
        raise InvalidSpec(f"--task {task}: a log of inspect_ai has one task; leave it out")
    return import_inspect(lake, logs, model, strategy)


def _import_lighteval(
    lake: Location, logs: "Logs", model: str | None, strategy: str, task: str | None
) -> tuple[str, bool]:
    from prunelake.imports.lighteval import import_lighteval

    return import_lighteval(lake, logs, model, strategy, task)


class LogFormat(NamedTuple):
    """The logs of one tool: the help of the command, and the function that imports them."""

    help: str
    import_logs: "LogImport"


LOG_FORMATS = {
    "harness": LogFormat(
        "Import sample logs of lm-evaluation-harness (--log_samples), multiple choice.",
        _import_harness,
    ),
    "inspect": LogFormat(
        "Import logs of inspect_ai (.json, .eval), multiple choice with log-probabilities.",
        _import_inspect,
    ),
    "lighteval": LogFormat(
        "Import details of lighteval (--save-details), multiple choice with log-likelihoods.",
        _import_lighteval,
    ),
}
"""The commands that read logs of levels or of candidates, by name."""


def _log_command(import_logs: "LogImport") -> Callable[..., None]:
    """The command that imports the logs of one tool; all take the same options."""

    def command(
        path: PathArgument = None,
        level: LevelOption = None,
        baseline: BaselineOption = None,
        candidate: CandidateOption = None,
        task: TaskOption = None,
        model: ModelOption = None,
        strategy: StrategyOption = "",
        lake: LakeOption = None,
    ) -> None:
        folder = load_settings(lake).lake
        logs = logs_of_options(path, level, baseline, candidate)
        run_id, is_new = import_logs(folder, logs, model, strategy, task)
        _print_import(folder, run_id, is_new, are_candidates=bool(baseline))

    return command


for _name, _format in LOG_FORMATS.items():
    import_app.command(_name, help=_format.help)(_log_command(_format.import_logs))


@import_app.command()
def predictions(
    baseline: Annotated[
        str, typer.Option(metavar="LABEL=FILE", help="The predictions of the unchanged model.")
    ],
    candidate: Annotated[
        list[str],
        typer.Option(
            metavar="LABEL=FILE[,dtype=D,model=M,revision=R]",
            help="The predictions of a changed model; repeat it for each candidate.",
        ),
    ],
    task: Annotated[str, typer.Option(help="The name of the task.")],
    model: Annotated[str, typer.Option(help="The name of the unchanged model.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEANING=NAME",
            help="The name of a column: id, prediction, gold, correct, confidence, options, "
            "option_count or prompt [the same name].",
        ),
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Import predictions from CSV, JSONL or Parquet: an id, a prediction and the gold answer.

    A column confidence (the probability of the prediction) is optional; without it there is no
    calibration. A column correct may replace gold. All files have the same ids.
    """
    from prunelake.imports.prediction_file import PredictionColumns
    from prunelake.imports.predictions import import_predictions

    names = dict(split_option("--column", text, "MEANING=NAME") for text in column or [])
    meanings = [meaning for meaning, _ in PredictionColumns().items()]
    if unknown := sorted(names.keys() - {*meanings}):
        raise InvalidSpec(
            f"--column {unknown[0]!r}: write MEANING=NAME; a meaning is one of "
            + ", ".join(meanings)
        )
    columns = PredictionColumns(**names)
    files = labelled_files(baseline, candidate)
    folder = load_settings(lake).lake
    run_id, is_new = import_predictions(folder, files[0], files[1:], task, model, columns)
    _print_import(folder, run_id, is_new, are_candidates=True)


@import_app.command()
def table(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="CSV", help="A file with the columns model,task,removed_layers,accuracy,..."
        ),
    ],
    operator: Annotated[
        Operator | None, typer.Option(help="The deletion operator of the deletion curves.")
    ] = None,
    variant: Annotated[
        AopcVariant | None, typer.Option(help="The AOPC variant: how curves were averaged.")
    ] = None,
    strategy: StrategyOption = "",
    lake: LakeOption = None,
) -> None:
    """Import published metrics from a CSV file.

    Each row is one model, task and number of removed layers. Each further column is a metric
    (accuracy, ece, nll, ...) or a metric of explanations with its method
    (comprehensiveness_lime).
    """
    from prunelake.imports.table import import_table

    folder = load_settings(lake).lake
    for published, run_id, is_new in import_table(folder, file, strategy, operator, variant):
        highest, count = max(published.levels), len(published.levels)
        levels = f"{count} levels from 0 to {highest}" if highest else "1 level"
        known = "" if is_new else " (in the lake already)"
        typer.echo(f"run {run_id}: {published.model}, {published.task}, {levels}{known}")
    typer.echo(NO_EXAMPLES_WARNING)


def _print_import(lake: Location, run_id: str, is_new: bool, are_candidates: bool) -> None:
    from prunelake.cli.text.comparison_table import print_comparison
    from prunelake.cli.text.terminal import print_summary

    if not is_new:
        typer.echo(f"run {run_id} is in the lake already; nothing to import")
    if are_candidates:
        print_comparison(lake, run_id)
    else:
        print_summary(lake, [run_id])
    for level, reason, count in _excluded_examples(lake, run_id):
        examples = "example" if count == 1 else "examples"
        typer.echo(f"Excluded at level {level}: {count} {examples}, {reason} (view excluded).")


def _excluded_examples(lake: Location, run_id: str) -> list[tuple[int, str, int]]:
    from prunelake.lake.sql.views import query

    return query(
        lake,
        """
        select level, reason, count(*) as example_count
        from excluded
        where run_id = $run_id
        group by level, reason
        order by level, reason
        """,
        run_id=run_id,
    ).rows()
