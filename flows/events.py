"""What the flows tell Prefect beyond their states; `automations/` waits for it."""

from prefect.events import Event, emit_event

from prunelake.storage import Location
from prunelake.views import connect, select

HIDDEN_DEGRADATION = "prunelake.hidden_degradation.found"


def emit_hidden_degradations(lake: Location, run_id: str) -> Event | None:
    """Tell of the levels where a run's metrics are worse and its accuracy stable, if there are any.

    The false discovery rate is that of this run's tests alone. The event's resource is
    `prunelake.run.<run_id>`, with the labels prunelake.model, .revision, .task and .strategy; its
    payload has run_id, count, and in `found` the level, metric, method, operator, variant and delta
    of each.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `views.connect`.
    """
    with connect(lake, [run_id]) as connection:
        about = select(connection, "select model, revision, task, strategy from runs").row(
            0, named=True
        )
        found = select(
            connection,
            """
            select level, metric, method, operator, variant, delta
            from verdicts
            where verdict = 'hidden degradation'
            order by all
            """,
        ).to_dicts()
    if not found:
        return None
    return emit_event(
        HIDDEN_DEGRADATION,
        resource={
            "prefect.resource.id": f"prunelake.run.{run_id}",
            "prefect.resource.name": f"{about['task']} {about['strategy']} {about['model']}",
            **{f"prunelake.{name}": value for name, value in about.items()},
        },
        payload={"run_id": run_id, "count": len(found), "found": found},
    )
