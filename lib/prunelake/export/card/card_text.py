"""The section of a model card with one generated text, or the command that measures texts."""

import re
from collections.abc import Sequence

from prunelake.command_line import text_command
from prunelake.lake.sql.run_lookup import PastRun
from prunelake.schema.table import TableRow
from prunelake.spec import SweepSpec


def text_section(level: int, text: TableRow | None) -> list[str]:
    """The first text of a level beside the text of level 0; empty if none was measured.

    `text` is a row of `run_lookup.level_text`.
    """
    if text is None:
        return []
    parts = {
        "The prompt": text["prompt"],
        "Level 0 continues": text["unpruned_generated"],
        f"Level {level} continues": text["generated"],
    }
    # A fence must be longer than every run of backticks within it.
    longest = max(map(len, re.findall("`+", "".join(parts.values()))), default=0)
    fence = "`" * max(3, longest + 1)
    lines = [
        "## A text",
        "",
        f"The first measured prompt of {text['task']} and its greedy continuation: "
        f"{text['generated_tokens']} tokens at level {level}.",
        "",
    ]
    for title, part in parts.items():
        lines += [f"{title}:", "", f"{fence}text", part, fence, ""]
    return lines


def missing_text(runs: Sequence[PastRun]) -> list[str]:
    """The command that measures texts of the first run that can be extended."""
    for run in runs:
        if run.spec is not None:
            spec = SweepSpec.model_validate_json(run.spec)
            return [f"  (`{text_command(spec, run.example_count)}` measures text)"]
    return []
