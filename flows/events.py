"""Events that the flows emit; the notifications in `automations/` wait for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.events import emit_event

HIDDEN_DEGRADATION = "prunelake.hidden_degradation.found"

RESOURCE_COLUMNS = ("model", "revision", "task", "strategy")
PAYLOAD_COLUMNS = ("level", "metric", "method", "operator", "variant", "delta")


def emit_hidden_degradations(run: Mapping[str, Any], hidden: Sequence[Mapping[str, Any]]) -> None:
    """Emit an event about the hidden degradations of a run, if it has any.

    `run` is the row of `runs`, `hidden` the rows of `verdicts` with a hidden degradation. The
    resource of the event is `prunelake.run.<run_id>`, with the labels prunelake.model, .revision,
    .task and .strategy. Its payload has run_id, count and `found`: the level, metric, method,
    operator, variant and delta of each row.
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
