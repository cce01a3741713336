"""Show the verdicts of a run in Prefect, as artifacts and as an event."""

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_table_artifact

from prunelake.errors import one_line
from prunelake.flows.events import emit_hidden_degradations
from prunelake.lake.sql import views
from prunelake.schema.verdicts import Verdict
from prunelake.settings import Settings

SUMMARY_QUERY = "select * exclude (run_id) from summary order by level"
HIDDEN_DEGRADATIONS_QUERY = """
    select
        level, metric, method, operator, variant, delta, delta_low, delta_high, p_adjusted,
        accuracy_delta, n
    from verdicts where verdict = $verdict
    order by level, metric, method, operator, variant
"""
DECIDED_QUERY = """
    select count(*) filter (verdict = $verdict) as open, count(verdict) as total from verdicts
"""


def announce_verdicts(settings: Settings, run: Mapping[str, Any]) -> str:
    """Show and announce the summary and the hidden degradations of a run; return a short summary.

    False discoveries are controlled over this run alone. The run is in the lake already, so a
    failure here is a warning.
    """
    run_id = run["run_id"]
    title = f"Run {run_id}: {run['model']}, {run['task']}, {run['strategy']}"
    try:
        with views.connect(settings.lake, [run_id]) as connection:
            summary = views.select(connection, SUMMARY_QUERY).to_dicts()
            hidden = views.select(
                connection, HIDDEN_DEGRADATIONS_QUERY, verdict=Verdict.hidden_degradation
            ).to_dicts()
            (counts,) = views.select(
                connection, DECIDED_QUERY, verdict=Verdict.inconclusive
            ).to_dicts()
        levels = sorted({row["level"] for row in hidden})
        text = f"hidden degradations at levels {levels}"
        if not hidden:
            text = (
                f"no hidden degradation shown; {counts['open']} of {counts['total']} verdicts are "
                "inconclusive"
            )
        create_table_artifact(table=summary, key="sweep-summary", description=title)
        create_table_artifact(
            table=hidden, key="hidden-degradations", description=f"{title}: {text}"
        )
        if settings.page_url:
            create_link_artifact(
                link=f"{settings.page_url.rstrip('/')}/?run_id={run_id}",
                link_text=title,
                key="charts",
                description=f"{title}: charts, once the lake is published",
            )
        emit_hidden_degradations(run, hidden)
    except Exception as error:  # from the lake, DuckDB or the server; the run is written
        get_run_logger().warning(
            "run %s is written, but its verdicts are not shown: %s", run_id, one_line(error)
        )
        return "verdicts not shown"
    return text
