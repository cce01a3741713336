"""The commands that bring results of others into the lake."""

from pathlib import Path
from typing import Annotated

import typer

from prunelake.console import LakeOption, print_summary, settings_for
from prunelake.errors import InvalidSpec

imports = typer.Typer(
    help="Bring results that others measured into the lake.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
PathArgument = Annotated[Path | None, typer.Argument(help="The log of the unpruned model.")]
LevelOption = Annotated[
    list[str] | None, typer.Option("--level", help="LEVEL=PATH, a log a level; may be repeated.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Name of the model [the log's].")]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help="How the levels' layers were chosen, if known.")
]


@imports.command()
def harness(
    path: PathArgument = None,
    level: LevelOption = None,
    task: Annotated[str | None, typer.Option(help="Which task of a folder of logs.")] = None,
    model: ModelOption = None,
    strategy: StrategyOption = "",
    lake: LakeOption = None,
) -> None:
    """Import sample logs of lm-evaluation-harness (--log_samples), multiple choice."""
    from prunelake.imports.harness import import_harness

    folder = settings_for(lake).lake
    _imported(folder, *import_harness(folder, _logs(path, level), model, strategy, task))


@imports.command()
def inspect(
    path: PathArgument = None,
    level: LevelOption = None,
    model: ModelOption = None,
    strategy: StrategyOption = "",
    lake: LakeOption = None,
) -> None:
    """Import logs of inspect_ai (.json, .eval), multiple choice with log-probabilities."""
    from prunelake.imports.inspect_log import import_inspect

    folder = settings_for(lake).lake
    _imported(folder, *import_inspect(folder, _logs(path, level), model, strategy))


def _logs(path: Path | None, levels: list[str] | None) -> dict[int, Path]:
    """The log of each level: PATH is that of level 0."""
    pairs = [] if path is None else [("0", str(path))]
    for text in levels or []:
        number, sign, file = text.partition("=")
        if not (sign and file and number.isascii() and number.isdecimal()):
            raise InvalidSpec(f"--level {text!r}: write LEVEL=PATH, like 4=logs/level_4")
        pairs.append((number, file))
    logs = {int(number): Path(file) for number, file in pairs}
    if not logs or len(logs) < len(pairs):
        raise InvalidSpec("give one log a level: PATH, or --level 0=PATH --level 4=PATH")
    return logs


def _imported(lake: Path, run_id: str, is_new: bool) -> None:
    if not is_new:
        typer.echo(f"run {run_id} is in the lake already; nothing to import")
    print_summary(lake, [run_id])
