"""The x axis of charts over levels: removed layers in order, or candidates by label."""

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from ...findings.level_names import LevelNames
from .house_style import INK, WIDTH
from .vega_lite import Part, field

LETTER, LINE_HEIGHT = 5.5, 11  # px, of an axis label
AXIS_TITLE = 37  # px, with its distance from the labels and to what follows
SHORTEST_LINE = 8  # letters; narrower labels are vertical
LONGEST_LABEL = 22  # letters of a vertical label
MAX_LINES = 4

BASELINE_POINT: dict[str, Any] = {"shape": "square", "color": INK, "size": 48}


def level_axis(
    names: LevelNames,
    levels: Sequence[int],
    title: str = "removed layers (0 = unpruned)",
    is_labelled: bool = True,
    **scale: Any,
) -> dict[str, Any]:
    """The x channel of the field `level` for a panel that shows `levels`.

    Candidates have no order: each has its own place, in the order of the comparison. `title` and
    `scale` (properties of the scale) are for levels of removal.
    """
    if names.is_comparison:
        return field(
            "level:O",
            title="candidate" if is_labelled else None,
            scale={"domain": list(levels)},
            axis=candidate_axis(names, levels, labels=is_labelled),
        )
    return field(
        "level:Q",
        title=title if is_labelled else None,
        scale=scale,
        axis={
            "values": sorted(levels),
            "format": "d",
            "labels": is_labelled,
            "labelOverlap": True,
            "labelFlush": False,
        },
    )


def candidate_axis(
    names: LevelNames, levels: Sequence[int], width: float = WIDTH, **axis: Any
) -> dict[str, Any]:
    """An axis with the label of each candidate, in lines that fit its share of `width` px.

    Labels without room for `SHORTEST_LINE` letters are vertical.
    """
    lines, is_vertical = _label_lines(names, levels, width)
    return {
        "labelExpr": f"{json.dumps(lines)}[datum.value]",
        "labelAngle": -90 if is_vertical else 0,
        "labelLimit": 0,
        "labelOverlap": False,
        **axis,
    }


def candidate_axis_height(names: LevelNames, levels: Sequence[int], width: float = WIDTH) -> int:
    """The height in px of the labels and the title of a `candidate_axis`."""
    lines, is_vertical = _label_lines(names, levels, width)
    texts = lines.values()
    letters = max(len(line) for text in texts for line in text)
    lines_height = LINE_HEIGHT * max(map(len, texts))
    return AXIS_TITLE + (round(LETTER * letters) if is_vertical else lines_height)


def baseline_and_candidates(dots: Part) -> list[Part]:
    """The points of a comparison: the baseline as a square in ink, the candidates as they are."""
    baseline = dots.mark("point", filled=True, opacity=1, **BASELINE_POINT)
    return [baseline.filter("datum.level == 0"), dots.filter("datum.level > 0")]


def _label_lines(
    names: LevelNames, levels: Sequence[int], width: float
) -> tuple[dict[int, list[str]], bool]:
    """The lines of each label, and whether they are vertical; the baseline is marked."""
    letters = int(width / len(levels) / LETTER)
    is_vertical = letters < SHORTEST_LINE
    room = (LONGEST_LABEL, 1) if is_vertical else (letters, MAX_LINES)
    mark = "(baseline)" if letters >= len("(baseline)") or is_vertical else "(base)"
    return {
        level: wrapped(names.labels[level], *room) + [mark] * (level == 0) for level in levels
    }, is_vertical


def wrapped(label: str, letters: int, max_lines: int = MAX_LINES) -> list[str]:
    """A label in lines of at most `letters` letters. A label that does not fit loses its middle.

    wrapped("SmolLM2-135M int8", 9)  # ["SmolLM2-", "135M int8"]
    """
    room = max_lines * letters
    if len(label) > room:
        end = (room - 1) * 2 // 3
        label = f"{label[: room - 1 - end]}\N{HORIZONTAL ELLIPSIS}{label[-end:]}"
    lines = textwrap.wrap(label, letters)
    if len(lines) <= max_lines:
        return lines
    # Breaks at spaces and hyphens need more lines than breaks anywhere.
    return [label[at : at + letters] for at in range(0, len(label), letters)]
