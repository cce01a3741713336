"""The costs of levels: the sizes and speeds that the lake knows, on one device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import NotFound, NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.recommend.budget import COST_COLUMNS, BudgetTerm
from prunelake.recommend.candidates import CostValues
from prunelake.recommend.request import RecommendationRequest
from prunelake.recommend.sizes import size_shares
from prunelake.schema.profile_tables import MAX_LOAD_AVERAGE

SPEEDUP_RANGES = (
    *("decode_speedup_low", "decode_speedup_high"),
    *("prefill_speedup_low", "prefill_speedup_high"),
)
"""The least and the greatest speed-up over the repeats of a profile."""


@dataclass(frozen=True)
class KnownCosts:
    """The costs of runs by run id and level, and the device on which they were measured.

    `busy_load` is the load average of the machine before the profile, if the device is a CPU and
    the machine was busy; its speeds are then unreliable.
    """

    device: str | None
    levels: Mapping[str, Mapping[int, CostValues]]
    busy_load: float | None = None


def known_costs(
    connection: Connection, request: RecommendationRequest, model: str, runs: pl.DataFrame
) -> KnownCosts:
    """The costs of these runs, which are rows of `runs`.

    The device is None, and there are no measured costs, if nothing was measured. The same holds if
    several devices were measured and the budget needs no speed or memory. Sizes are known without a
    device where `size_shares` gives them.

    Raises:
        NotFound: no costs of the requested device, or the budget needs costs and several devices
            have them.
        NothingToShow: a cost in the budget is known for no level.
    """
    efficiency = BoundQuery(
        """
        select
            efficiency.*,
            case
                when profiles.device = 'cpu' and profiles.load_average > $most
                    then profiles.load_average
            end as busy_load
        from efficiency
        inner join profiles on efficiency.profile_id = profiles.profile_id
        where list_contains($run_ids, efficiency.run_id)
        """,
        run_ids=runs["run_id"].to_list(),
        most=MAX_LOAD_AVERAGE,
    )
    columns = [*dict.fromkeys(COST_COLUMNS.values()), *SPEEDUP_RANGES, "busy_load"]
    measured = efficiency.rows(connection).select("run_id", "level", "device", *columns)
    devices = sorted(set(measured["device"]))
    if request.device is not None and request.device not in devices:
        raise NotFound(
            f"no cost of {model} was measured on {request.device!r}; "
            f"measured devices: {', '.join(devices) or 'none'}",
            devices,
        )
    device = request.device or (devices[0] if len(devices) == 1 else None)
    of_device = measured.filter(device=device) if device else measured.clear()
    levels: dict[str, dict[int, dict[str, float | None]]] = {}
    for row in of_device.drop("device", "busy_load").iter_rows(named=True):
        levels.setdefault(row.pop("run_id"), {})[row.pop("level")] = row
    for run in runs.filter(pl.col("label").is_null()).iter_rows(named=True):
        known = levels.setdefault(run["run_id"], {})
        for level, shares in size_shares(run, known).items():
            costs = known.setdefault(level, {})
            costs |= {name: share for name, share in shares.items() if costs.get(name) is None}
    for term in request.budget.terms:
        if term.name in COST_COLUMNS:
            _require_known(term, model, runs, measured, levels, devices)
    busy_load = of_device["busy_load"].max()
    return KnownCosts(device, levels, busy_load if isinstance(busy_load, float) else None)


def _require_known(
    term: BudgetTerm,
    model: str,
    runs: pl.DataFrame,
    measured: pl.DataFrame,
    levels: Mapping[str, Mapping[int, CostValues]],
    devices: Sequence[str],
) -> None:
    """Raise unless the cost of a term is known for some level of these runs."""
    if term.column == "weight_share" and runs["weight_share"].count():
        return  # candidates have a size without a profile
    of_levels = [costs for by_level in levels.values() for costs in by_level.values()]
    if any(costs.get(term.column) is not None for costs in of_levels):
        return
    if measured[term.column].null_count() == measured.height:
        raise NothingToShow(
            f"budget term '{term}': {term.name} was never measured for {model}; "
            f"`prunelake profile --model {model} --strategy {runs['strategy'][0]}` measures it"
        )
    raise NotFound(
        f"budget term '{term}': {term.name} was measured on {' and '.join(devices)}; "
        "choose one by device",
        devices,
    )
