"""Drawings on one page: distinct ids, and the colours of both themes."""

import pytest

from prunelake.api.report.html import merge_themes, with_distinct_ids


def test_drawings_get_distinct_ids() -> None:
    drawing = '<svg x="1"><a id="a_0"/><b fill="url(#a_0)"/>\n<c xlink:href="#a_0"/></svg>'
    expected = [drawing.replace("a_0", f"drawing{i}-a_0") for i in range(2)]
    assert with_distinct_ids(f'<i id="a_0">{drawing}</i>{drawing}') == (
        f'<i id="a_0">{expected[0]}</i>{expected[1]}'
    )


def test_a_drawing_has_the_colours_of_both_themes() -> None:
    light = '<a fill="#111" stroke="none">#111</a><b stop-color="red" fill="url(#g_0)"/>'
    dark = '<a fill="#eee" stroke="none">#111</a><b stop-color="blue" fill="url(#g_1)"/>'
    assert merge_themes(light, dark) == (
        '<a fill="light-dark(#111, #eee)" stroke="none">#111</a>'
        '<b stop-color="light-dark(red, blue)" fill="url(#g_0)"/>'
    )
    with pytest.raises(ValueError, match="zip"):
        merge_themes(light, "<a/>")
