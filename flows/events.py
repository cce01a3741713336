"""What the flows tell Prefect beyond their states; `automations/` waits for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.events import emit_event

HIDDEN_DEGRADATION = "prunelake.hidden_degradation.found"

RESOURCE_COLUMNS = ("model", "revision", "task", "strategy")
PAYLOAD_COLUMNS = ("level", "metric", "method", "operator", "variant", "delta")


def emit_hidden_degradations(run: Mapping[str, Any], hidden: Sequence[Mapping[str, Any]]) -> None:
    """Tell of the levels where a run's metrics are worse and its accuracy stable, if there are any.

    `run` is its row of `runs`, `hidden` its rows of `verdicts` that say so. The event's resource is
    `prunelake.run.<run_id>`, with the labels prunelake.model, .revision, .task and .strategy; its
    payload has run_id, count, and in `found` the level, metric, method, operator, variant and delta
    of each.
    """
    if not hidden:
        return
    run_id = run["run_id"]
    emit_event(
        HIDDEN_DEGRADATION,
        resource={
            "prefect.resource.id": f"prunelake.run.{run_id}",
            "prefect.resource.name": f"{run['task']} {run['strategy']} {run['model']}",
            **{f"prunelake.{name}": run[name] for name in RESOURCE_COLUMNS},
        },
        payload={
            "run_id": run_id,
            "count": len(hidden),
            "found": [{name: row[name] for name in PAYLOAD_COLUMNS} for row in hidden],
        },
    )
