"""The sweep that would settle the open questions of a run, as a sentence."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prunelake.command_line import SettlingSweep, settling_sweep
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import WrongFormat
from prunelake.identity import run_kind, stored_spec
from prunelake.schema.metrics import FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict
from prunelake.spec import SweepSpec

from .level_rows import HEADLINE_METRICS


def settled_by(run: Mapping[str, Any], levels: pl.DataFrame) -> SettlingSweep | None:
    """The sweep or comparison that settles the inconclusive verdicts of a run.

    None if none would, or if the run cannot be repeated. `levels` are the run's rows of
    `run_metrics.headline_metrics`. Levels that have lost accuracy do not count: more examples would
    say little about them.
    """
    spec = _spec(run)
    if spec is None or spec.sequential is not None:
        return None
    lost = levels.filter(metric="accuracy", verdict=Verdict.visible_degradation)["level"]
    is_open = pl.col("metric").is_in(("accuracy", *HEADLINE_METRICS)) & ~pl.col("level").is_in(
        lost.implode()
    )
    open_rows = levels.filter(is_open).drop_nulls("n_needed")
    if open_rows.is_empty():
        return None
    needed = {
        is_explained: max(open_rows.filter(of_kind)["n_needed"].to_list(), default=0)
        for is_explained, of_kind in (
            (True, pl.col("metric").is_in(FAITHFULNESS_METRICS)),
            (False, ~pl.col("metric").is_in(FAITHFULNESS_METRICS)),
        )
    }
    return settling_sweep(spec, run["example_count"], needed[False], needed[True])


def settling_sentence(run: Mapping[str, Any], levels: pl.DataFrame) -> str:
    """The sentence with this command, or the number of looks of a sweep until decided, or empty."""
    settling = settled_by(run, levels)
    return settling.sentence("the inconclusive verdicts") if settling else sequential_note(run)


def sequential_note(run: Mapping[str, Any]) -> str:
    """How often a sweep until decided has looked at its sample; empty for other runs."""
    spec = _spec(run)
    design = spec.sequential if spec else None
    if design is None:
        return ""
    return (
        f"Sequential: look {len(design.looks) + 1} at a growing sample. Intervals and tests of "
        "changes allow for all looks."
    )


def _spec(run: Mapping[str, Any]) -> SweepSpec | ComparisonSpec | None:
    """The spec of a run; None for an import, and for a spec that cannot be read."""
    if run_kind(run["identity"]) == "import":
        return None
    try:
        return stored_spec(run)
    except WrongFormat:
        return None
