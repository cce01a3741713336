from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.overlap import overlap_chart
from prunelake.api.queries import charts
from prunelake.lake.sql import views
from tests.support.api.chart_rows import spec
from tests.support.runs.analyst_guide_runs import seeds_run
from tests.support.runs.example_runs import explained_run, published_run
from tests.support.runs.lake_rows import identity_of

NBSP = "\N{NO-BREAK SPACE}"


def overlaps(levels: int = 3, **columns: Any) -> pl.DataFrame:
    """Two levels share all of their top tokens, minus a tenth for each level between them."""
    return pl.DataFrame(
        [
            {
                "method": "lime",
                "level": one,
                "other_level": other,
                "overlap": max(0.0, 1 - abs(one - other) / 10),
                "ci_low": 0.72 if other == 0 else None,
                "ci_high": 0.88 if other == 0 else None,
                "seed_overlap": 0.5 + one / 100,
                "n": 12,
            }
            | columns
            for one in range(levels)
            for other in range(levels)
        ]
    )


def test_the_title_is_about_the_deepest_level_and_the_subtitle_about_its_noise() -> None:
    assert house_style.title(overlap_chart(overlaps())) == (
        f"At level 2 the explanation shares 80{NBSP}% of its top 10 tokens with the unpruned "
        f"model's (95 % interval at level 2: 72 to 88{NBSP}%; lime, n = 12; cells: percent; "
        f"the explainer's own noise: two seeds share 50{NBSP}% unpruned and 52{NBSP}% at level 2)"
    )


def test_with_one_seed_the_subtitle_says_that_the_noise_is_unknown() -> None:
    title = house_style.title(overlap_chart(overlaps(seed_overlap=None)))
    assert title.endswith("one seed: the explainer's own noise is not known)")


def test_a_level_without_examples_in_common_with_level_0_is_left_out() -> None:
    rows = overlaps().filter(
        ((pl.col("level") < 2) & (pl.col("other_level") < 2))
        | (pl.col("level") == pl.col("other_level"))
    )
    chart = overlap_chart(rows)
    assert house_style.title(chart).startswith(f"At level 1 the explanation shares 90{NBSP}%")
    assert spec(chart)["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0, 1]


@pytest.mark.parametrize(("levels", "has_numbers"), [(2, True), (8, True), (17, True), (41, False)])
def test_cells_have_numbers_if_these_fit(levels: int, has_numbers: bool) -> None:
    chart = overlap_chart(overlaps(levels))
    texts = [layer for layer in spec(chart)["layer"] if layer["mark"]["type"] == "text"]
    assert bool(texts) == has_numbers
    picture = ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))
    assert 200 < float(picture.attrib["width"]) < 380
    drawn = [part.strip() for part in picture.itertext()]
    assert ("90" in drawn) == has_numbers


def test_the_query_has_the_headline_method_with_interval_and_noise(tmp_path: Path) -> None:
    drops = {("lime", "replace"): 0.5, ("kernel_shap", "replace"): 0.5}
    run_id = explained_run(tmp_path, drops=drops)
    seeds_run(tmp_path)
    several = identity_of("seeds")[1]
    with views.connect(tmp_path) as connection:
        rows = charts.overlap_matrix(run_id).rows(connection)
        stored = views.select(
            connection,
            "select level, other_level, overlap_10, n from overlap_matrix "
            f"where run_id = '{run_id}' and method = 'kernel_shap' order by all",
        )
        seeded = charts.overlap_matrix(several).rows(connection)
        agreement = views.select(
            connection,
            f"select level, overlap_10 from seed_agreement where run_id = '{several}'",
        )
        intervals = views.select(
            connection,
            f"select level, ci_low from metrics where run_id = '{several}' "
            "and metric = 'overlap_10'",
        )
    assert set(rows["method"]) == {"kernel_shap"}
    assert rows.select("level", "other_level", "overlap", "n").rows() == stored.rows()
    assert rows["seed_overlap"].null_count() == rows.height
    assert set(seeded.select("level", "seed_overlap").rows()) == set(agreement.rows())
    assert set(seeded.filter(other_level=0).select("level", "ci_low").rows()) == set(
        intervals.rows()
    )
    assert seeded.filter(pl.col("other_level") > 0)["ci_low"].drop_nulls().is_empty()


def test_a_published_run_has_no_overlaps(tmp_path: Path) -> None:
    run_id = published_run(tmp_path)
    with views.connect(tmp_path) as connection:
        assert charts.overlap_matrix(run_id).rows(connection).is_empty()
