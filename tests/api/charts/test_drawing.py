"""Text on coloured cells: WCAG 2's contrast of 4.5 on every shade of a range, in both themes."""

import re
from itertools import pairwise

import pytest

from prunelake.api.charts.drawing.house_style import DARK, DIVERGING, INK, SEQUENTIAL


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour."""
    shares = [int(part, 16) / 255 for part in re.findall("[0-9A-F]{2}", colour.upper())]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def between(one: str, other: str, share: float) -> str:
    """Interpolated in RGB, as the charts do."""
    pairs = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + "".join(f"{round(a + share * (b - a)):02X}" for a, b in pairs)


def test_contrast_equals_the_standard() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colours", [SEQUENTIAL, DIVERGING])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ink_is_readable_on_every_shade(colours: tuple[str, ...], theme: str) -> None:
    ink, shades = INK, colours
    if theme == "dark":
        ink, shades = DARK[INK], tuple(DARK[colour] for colour in colours)
    for one, other in pairwise(shades):
        for step in range(11):
            assert contrast(ink, between(one, other, step / 10)) >= 4.5
