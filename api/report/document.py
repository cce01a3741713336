"""The report of a lake: one HTML file without scripts, network access or other files."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.errors import NothingToShow, PruneLakeError
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import is_current
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import Connection
from prunelake.lake.sql.queries_together import rows_of_each
from prunelake.lake.storage.location import Location, local_path
from prunelake.spec import UNIT_NAMES

from ..charts.catalog import CHARTS
from ..charts.drawing.pictures import POOL
from ..charts.importance import chart_of_importance
from ..findings.headline import decided_count, headline
from ..findings.level_names import LevelNames
from ..findings.level_rows import CORRELATED_METRICS
from ..findings.selection import Selection
from ..findings.wording import listed, model_name, number, order_name, removed_modules
from ..queries import charts, run_metrics
from ..queries import runs as run_queries
from ..queries.snapshots.snapshot import open_snapshot
from . import html, tables
from .drawings import Drawings
from .recommendations_section import recommended_section
from .run_section import run_section
from .sections import Section, markup_of_each

IMPORTANCE_DEFINITIONS = {
    "cosine": "1 minus the mean cosine similarity of the residual stream before and after it",
    "balanced": "how much its removal reduced accuracy, calibration and explanations together, "
    "after the layers removed before it",
    "divergence": "how far its removal moved the option distributions from the unpruned model's "
    "(mean KL divergence in nats), after the layers removed before it",
    "iterative": "as `cosine`, on the model without the layers removed before it",
    "last": "the number of layers after it",
    "loss": "how much its removal raised the loss of the next token (nats), after the layers "
    "removed before it",
    "random": "a random draw",
    "use": "the share of tokens of calibration text for which its router chooses it",
}

EXPERT_DEFINITIONS = {
    "iterative": "as `use`, on the model without the experts removed before it",
    "last": "the number of experts after it",
}

REMOVAL_TITLE = "How removing attention layers changes accuracy, confidence and explanations"
COMPARISON_TITLE = "How compressing a model changes accuracy, confidence and explanations"

REMOVAL_LEVELS = """\
Level k is the model without the attention of the first k layers of the removal
order; level 0 is the unpruned model."""
COMPARISON_LEVELS = """
In a comparison, each candidate is another model. It is compared with the baseline on the same
examples."""

Run = dict[str, Any]


def write_report(lake: Location, out: Path, run_ids: Sequence[str] | None = None) -> None:
    """Write the report of all runs, or of `run_ids`, to `out` in one step.

    Raises:
        LakeError: no such folder or no such run.
        WrongFormat, CorruptFile, QueryError: as `views.query`.
        PruneLakeError: `out` cannot be written.
    """
    drawings = Drawings()
    with _connection(lake, run_ids) as connection:
        runs = list(run_queries.all_runs().rows(connection).iter_rows(named=True))
        if runs:
            POOL.warm_up()  # while this process reads
        levels = run_metrics.headline_metrics([run["run_id"] for run in runs]).rows(connection)
        compared = _sources(connection, runs)
        runs = [run for run in runs if run["run_id"] not in compared]
        models = list(dict.fromkeys(run["model"] for run in runs))
        # The charts of these sections are drawn while this process writes the rest.
        model_sections = [*_model_sections(connection, runs, levels, drawings)]
        sections = [
            recommended_section(connection, models),
            _pooled_section(run_metrics.pooled_correlations().rows(connection)),
            *model_sections,
        ]
        page = _page(lake, runs, _contents(runs, levels), sections)
    page = drawings.put_into(page)
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PruneLakeError(
            f"{out} could not be written: {error.strerror}; give --out another path"
        ) from error


@contextmanager
def _connection(lake: Location, run_ids: Sequence[str] | None) -> Iterator[Connection]:
    """The views of the lake; of a published snapshot, if it has all runs: it answers sooner."""
    if run_ids is None and (folder := local_path(lake)) and folder.is_dir() and is_current(lake):
        with open_snapshot(folder / SNAPSHOT_FILE).cursor() as connection:
            yield connection
    else:
        with views.connect(lake, run_ids) as connection:
            yield connection


def _sources(connection: Connection, runs: Sequence[Run]) -> set[str]:
    """The sweeps of level 0 alone whose results a comparison shows; they need no section."""
    whole = {run["run_id"] for run in runs if max(run["levels"]) == 0}
    named = run_queries.compared_sweeps().rows(connection)["source_run_id"]
    return whole & set(named)


def _page(lake: Location, runs: Sequence[Run], contents: str, sections: Sequence[str]) -> str:
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    if runs:
        body = "".join(sections)
    else:
        body = (
            f"<p>The lake at <code>{escape(str(lake))}</code> holds no runs yet, so there is "
            "nothing to show. <code class='command'>prunelake demo</code> fills it with a small "
            "sweep, <code class='command'>prunelake sweep --task boolq</code> with your own.</p>"
        )
    ids = ", ".join(f"<code>{run['run_id']}</code>" for run in runs) or "none"
    title, levels_text = REMOVAL_TITLE, REMOVAL_LEVELS
    if any(run["strategy"] == COMPARISON_STRATEGY for run in runs):
        title, levels_text = COMPARISON_TITLE, REMOVAL_LEVELS + COMPARISON_LEVELS
    command = f"prunelake report --lake {lake} --out report.html"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PruneLake report</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{contents}
<p class="soft">{levels_text}</p>
</header>
<main>
{body}
</main>
<footer>
<p>Made by <code>{escape(command)}</code> from the runs {ids}.</p>
</footer>
</body>
</html>
"""


def _contents(runs: Sequence[Run], levels: pl.DataFrame) -> str:
    """Each run with its finding and a link; runs with the most decided verdicts come first."""
    if not runs:
        return ""
    levels_of = {run["run_id"]: levels.filter(run_id=run["run_id"]) for run in runs}
    decided_first = sorted(runs, key=lambda run: -decided_count(levels_of[run["run_id"]]))
    links = "".join(
        f'<li><a href="#{run["run_id"]}">{html.name(model_name(run["model"]))}, '
        f"{html.name(run['task'])}</a>: "
        f"{escape(headline(run, levels_of[run['run_id']]))}.</li>"
        for run in decided_first
    )
    return f"<nav aria-label='Runs'><ul>{links}</ul></nav>"


def _pooled_section(pooled: pl.DataFrame) -> str:
    """The correlations with accuracy over several runs; empty with one run."""
    shown = pooled.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if shown.is_empty():
        return ""
    misleading = [
        f"{tables.metric_label(row)} ({number(row['pooled_pearson'])} over all points, "
        f"{number(row['repeated_measures'])} within runs)"
        for row in shown.filter("is_simpson").iter_rows(named=True)
        # A sign means nothing if the interval includes 0.
        if row["repeated_measures_low"] > 0 or row["repeated_measures_high"] < 0
    ]
    warning = (
        '<p class="warning">Pooling the runs misleads (Simpson\'s paradox): the correlation '
        f"with accuracy has the opposite sign within runs for {escape(listed(misleading))}.</p>"
        if misleading
        else ""
    )
    return (
        f"<section><h2>Correlations with accuracy over several runs</h2>{warning}"
        f"{tables.pooled_table(shown)}</section>"
    )


def _model_sections(
    connection: Connection, runs: Sequence[Run], levels: pl.DataFrame, drawings: Drawings
) -> Iterator[str]:
    """One section for all runs that remove the layers of a model in the same order."""

    def removal_key(run: Run) -> tuple[Any, ...]:
        return run["model"], run["revision"], run["strategy"], run["removal_order"]

    levels_of = {run["run_id"]: levels.filter(run_id=run["run_id"]) for run in runs}
    labels_of = {
        run_id: list(LevelNames.of(run_levels).labels.values())
        for run_id, run_levels in levels_of.items()
    }
    sections: dict[str, Section] = {}
    compared = set()
    for run in runs:
        comparison = run["model"], run["revision"], run["task"]
        is_first = comparison not in compared
        run_levels = levels_of[run["run_id"]]
        sections[run["run_id"]] = run_section(run, run_levels, is_first, drawings)
        compared.add(comparison)
    texts = markup_of_each([*sections.values()], connection)
    text_of = dict(zip(sections, texts, strict=True))
    groups = [list(group) for _, group in groupby(runs, key=removal_key)]
    orders = markup_of_each([_order_section(members, drawings) for members in groups], connection)
    costs = rows_of_each([charts.efficiency(run["run_id"]) for run in runs], connection)
    costs_of = {run["run_id"]: rows for run, rows in zip(runs, costs, strict=True)}
    for members, figures in zip(groups, orders, strict=True):
        first = members[0]
        revision = first["revision"].removeprefix("sha256:")[:12] or "not known"
        layer_count = f", {first['layer_count'] or 'unknown number of'} layers"
        if first["strategy"] == COMPARISON_STRATEGY:
            layer_count = ""
        yield (
            f"<section><h2>{html.name(model_name(first['model']))}, "
            f"{escape(order_name(first['strategy']))}</h2>"
            f"<p class='soft'>Model <code>{escape(first['model'])}</code>, revision "
            f"<code>{escape(revision)}</code>{layer_count}.</p>"
            f"{tables.run_table(members, labels_of)}{figures}"
            f"{_costs([(run, costs_of[run['run_id']]) for run in members], drawings)}"
            f"{''.join(text_of[run['run_id']] for run in members)}</section>"
        )


def _costs(run_costs: Sequence[tuple[Run, pl.DataFrame]], drawings: Drawings) -> str:
    """The costs of the levels of the run with the most profiled levels; empty without a profile.

    Runs with the same removal order differ in their profiles only by level and number format.
    """
    run, costs = max(run_costs, key=lambda pair: pair[1].height)
    if costs.is_empty():
        return ""
    definition, picture = CHARTS["cost"], ""
    with suppress(NothingToShow):
        chart = definition.chart(costs, Selection(run, 0))
        picture = html.figures([drawings.figure(chart, definition.caption)])
    return f"<h3>Costs of the levels</h3>{picture}{tables.cost_table(costs)}"


def _order_section(runs: Sequence[Run], drawings: Drawings) -> Section:
    """The figures of all runs with one removal order: the order, and the tasks side by side."""
    first, figures = runs[0], []
    layers = yield charts.layer_importance(first["run_id"])
    if layers.height:
        chart = chart_of_importance(layers, first, max(map(max, (run["levels"] for run in runs))))
        unit, _, rest = first["strategy"].partition(":")
        strategy = rest.partition(":")[0] if unit in UNIT_NAMES else unit
        definitions = IMPORTANCE_DEFINITIONS | (EXPERT_DEFINITIONS if unit == "expert" else {})
        measure = definitions.get(strategy, f"by the strategy {strategy}")
        modules = removed_modules(first["strategy"])
        caption = f"Importance of {modules}: {measure}; from run {first['run_id']}."
        figures.append(drawings.figure(chart, caption))
    if len({run["task"] for run in runs}) > 1:
        definition, selection = CHARTS["correlation_matrix"], Selection(first, 0)
        rows = yield definition.query(selection)
        with suppress(NothingToShow):
            figures.append(drawings.figure(definition.chart(rows, selection), definition.caption))
    return html.figures(figures)
