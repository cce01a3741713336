from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.drawing.house_style import DARK, FAINT, INK, ON_COLOUR
from prunelake.api.charts.drawing.verdict_style import VERDICT_STYLES
from prunelake.api.charts.verdicts import verdicts_chart
from prunelake.api.findings.verdict_labels import VERDICT_LABELS
from prunelake.api.queries import run_metrics
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection
from tests.support.api.chart_rows import spec as valid_spec
from tests.support.runs.example_runs import judged_run, metric_rows

VALUES = {0: 0.5, 1: 0.5, 2: 0.5}
WORSE = {1: "hidden degradation", 2: "visible degradation"}
LEVELS = metric_rows(
    verdicts={
        "accuracy": {1: "equivalent", 2: "visible degradation"},
        "nll": WORSE,
        "ece": {1: "inconclusive"},
    },
    nll=VALUES,
    ece=VALUES,
    accuracy=VALUES,
    flip_rate=VALUES,
)


def spec(rows: pl.DataFrame = LEVELS) -> dict[str, Any]:
    return valid_spec(verdicts_chart(rows))


def cells(drawn: dict[str, Any]) -> list[tuple[int, str, str]]:
    (rows,) = (rows for rows in drawn["datasets"].values() if "mark" in rows[0])
    return [(row["level"], row["metric"], row["mark"]) for row in rows]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder: Path = tmp_path_factory.mktemp("lake")
    judged_run(folder)
    with views.connect(folder) as connection:
        yield connection


def test_the_verdicts_match_the_view(connection: Connection) -> None:
    ((run_id,),) = connection.execute("select run_id from runs").fetchall()
    drawn = spec(run_metrics.headline_metrics([run_id]).rows(connection))
    names = {
        "accuracy": "Accuracy",
        "flip_rate": "Flip rate",
        "ece": "ECE",
        "brier": "Brier score",
        "nll": "NLL",
        "auroc": "AUROC of confidence",
    }
    expected = connection.execute(
        f"""
        select level, metric, verdict from verdicts
        where verdict is not null and metric in {tuple(names)}
        """
    ).fetchall()
    assert {verdict for _, _, verdict in expected} >= {
        "hidden degradation",
        "visible degradation",
        "equivalent",
    }
    assert sorted(cells(drawn)) == sorted(
        (level, names[metric], VERDICT_LABELS[verdict].mark) for level, metric, verdict in expected
    )


def test_accuracy_is_the_first_row_and_only_judged_metrics_have_rows() -> None:
    drawn = spec()
    orders = {tuple(part["encoding"]["y"]["sort"]) for part in drawn["layer"]}
    assert orders == {("Accuracy", "ECE", "NLL")}
    assert cells(drawn) == [
        (1, "NLL", "!"),
        (2, "NLL", "v"),
        (1, "ECE", "?"),
        (1, "Accuracy", "="),
        (2, "Accuracy", "v"),
    ]


def test_the_legend_has_mark_word_and_meaning_of_each_verdict_in_the_chart() -> None:
    (scale,) = (
        part["encoding"]["color"]["scale"]
        for part in spec()["layer"]
        if "field" in part["encoding"].get("color", {})
    )
    assert scale["domain"] == [
        "!  hidden: worse while accuracy is stable",
        "v  visible: worse while accuracy falls",
        "=  equivalent: within its margin of unpruned",
        "?  inconclusive: too few examples to tell",
    ]
    assert len(set(scale["range"])) == 4


def test_every_verdict_has_its_own_mark_and_style() -> None:
    assert VERDICT_STYLES.keys() == VERDICT_LABELS.keys()
    assert len({verdict.mark for verdict in VERDICT_LABELS.values()}) == len(VERDICT_LABELS)
    assert len({style.colour for style in VERDICT_STYLES.values()}) == len(VERDICT_STYLES)
    assert len({style.shape for style in VERDICT_STYLES.values()}) == len(VERDICT_STYLES)


def test_only_the_faint_cells_have_a_mark_in_the_ink_of_the_paper() -> None:
    texts = [
        part for part in spec()["layer"] if part["encoding"].get("text", {}).get("field") == "mark"
    ]
    faint = 'datum.verdict == "?  inconclusive: too few examples to tell"'
    assert {part["mark"]["color"]: part["transform"] for part in texts} == {
        ON_COLOUR: [{"filter": f"!({faint})"}],
        INK: [{"filter": faint}],
    }
    assert [verdict for verdict, style in VERDICT_STYLES.items() if style.colour == FAINT] == [
        "inconclusive"
    ]


@pytest.mark.parametrize("twin", [lambda colour: colour, DARK.__getitem__])
def test_a_mark_is_readable_on_its_colour(twin: Any) -> None:
    for style in VERDICT_STYLES.values():
        ink = INK if style.colour == FAINT else ON_COLOUR
        assert contrast(twin(style.colour), twin(ink)) >= 4.5


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2: 1 to 21; text is readable from 4.5 on."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_contrast_equals_the_standard() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize(
    ("verdicts", "title"),
    [
        (
            {"accuracy": {1: "equivalent"}, "ece": WORSE, "nll": WORSE},
            "Accuracy is stable at level 1; hidden degradation of ECE and NLL",
        ),
        (
            {"accuracy": {1: "equivalent"}, "ece": {2: "visible degradation"}},
            "Accuracy is stable at level 1; no hidden degradation shown",
        ),
        (
            {"accuracy": {1: "inconclusive"}, "ece": {1: "worse"}},
            "No level is shown to keep accuracy; worse at some level: ECE",
        ),
        (
            {"accuracy": {2: "visible degradation"}, "ece": {2: "inconclusive"}},
            "Accuracy falls at level 2 and is stable at none; all other metrics are inconclusive",
        ),
        (
            {"accuracy": {1: "equivalent"}, "ece": {1: "inconclusive"}},
            "Accuracy is stable at level 1; all other metrics are inconclusive there",
        ),
        (
            {"accuracy": {1: "equivalent"}}
            | dict.fromkeys(("ece", "brier", "nll", "auroc", "comprehensiveness"), WORSE)
            | {"sufficiency": WORSE},
            "Accuracy is stable at level 1; hidden degradation of ECE, Brier score, NLL, AUROC of "
            "confidence and 2 more",
        ),
    ],
)
def test_the_title_names_metrics_that_are_worse_at_stable_levels(verdicts: Any, title: str) -> None:
    values: dict[str, Any] = dict.fromkeys(verdicts, VALUES)
    rows = metric_rows(verdicts=verdicts, **values)
    assert house_style.title(verdicts_chart(rows)).startswith(f"{title} (")
