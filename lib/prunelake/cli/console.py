"""Options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from prunelake.errors import InvalidSpec, validation_message
from prunelake.schema.row_format_names import RowFormat
from prunelake.spec import DEFAULT_NEW_TOKENS, Strategy

if TYPE_CHECKING:
    from prunelake.lake.storage.location import Location
    from prunelake.settings import Settings

LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="PATH",
        help="Folder of the lake, or s3://BUCKET/PREFIX [env PRUNELAKE_LAKE, ./lake].",
    ),
]

REFERENCE_HELP = "hub:ORG/NAME[@REVISION], a folder, a .gguf file, or package:NAME/FILE.gguf."
"""The forms of a model reference, for every command that loads a model."""

# Options of the explanations of sweeps and comparisons, and of their prompts.
SeedsOption = Annotated[str, typer.Option("--seeds", help="Seeds of the sampling methods.")]
OperatorsOption = Annotated[
    str,
    typer.Option("--operators", help="How deletion curves remove tokens: delete_text, replace."),
]
ExplainRowsOption = Annotated[
    int | None, typer.Option("--explain-rows", help="Explain only the first n examples.")
]
TextRowsOption = Annotated[
    int | None,
    typer.Option(
        "--text-rows",
        help="Measure the perplexity of the first n prompts; continue each prompt at every level.",
    ),
]
TextTokensOption = Annotated[
    int, typer.Option("--text-tokens", help="With --text-rows: continue by n tokens.")
]
SpecialTokensOption = Annotated[
    str,
    typer.Option(
        "--special-tokens", help="Special tokens before a prompt: tokenizer (its own), bos or none."
    ),
]


def text_fields(text_rows: int | None, text_tokens: int) -> dict[str, int] | None:
    """The fields of `spec.Texts`; None if no texts are measured.

    Raises:
        InvalidSpec: `--text-tokens` without `--text-rows`.
    """
    if text_rows is not None:
        return {"rows": text_rows, "new_tokens": text_tokens}
    if text_tokens != DEFAULT_NEW_TOKENS:
        raise InvalidSpec("--text-tokens needs --text-rows")
    return None


# Options that choose a removal order: from a run in the lake, or else computed now.
OrderStrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy", help="As in `prunelake sweep`: cosine, random:SEED, mlp:cosine, ..."
    ),
]
OrderDtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="Number format [the format of the lake's runs, or float32]."),
]
OrderRunOption = Annotated[
    str | None,
    typer.Option("--run", help="The run with the removal order, if the orders of runs differ."),
]
CalibrationTextOption = Annotated[
    str,
    typer.Option(
        "--calibration",
        help="Calibration text, if the lake has no order: bundled, c4, or a file.",
    ),
]

FormatOption = Annotated[
    RowFormat | None,
    typer.Option("--format", help="The format of the rows [a table for people]."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the rows to this file; .parquet, .csv, ... set the format."),
]


def load_settings(lake: "str | Location | None" = None) -> "Settings":
    """As `prunelake.settings.load_settings`, whose import takes as long as that of all commands."""
    from prunelake.settings import load_settings

    return load_settings(lake)


def parse_strategy(text: str) -> Strategy:
    """The strategy with this label: `cosine`, `random:3`, `mlp:cosine`.

    Raises:
        InvalidSpec: no such strategy, or an invalid seed.
    """
    try:
        return Strategy.model_validate(text)
    except ValidationError as error:
        problems = validation_message(error.errors(), name_of=_name_of_seed)
        raise InvalidSpec(f"--strategy {text}: {problems}") from error


def _name_of_seed(problem: Mapping[str, Any]) -> str:
    """The name of a problem with the seed; another problem is about the whole label."""
    return "seed" if problem["loc"] == ("seed",) else ""


def parse_numbers(text: str | None) -> list[int] | None:
    """The numbers in an option like 0,4,8.

    Raises:
        InvalidSpec: the text is not a list of whole numbers.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidSpec(f"{text!r} is not a list of whole numbers like 0,4,8") from error
