"""The calibrator that goes with an exported checkpoint, and what it did on the run it is of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.analysis.calibrators import Calibrator, from_json
from prunelake.analysis.cross_fitting import CALIBRATOR_NAMES, UNPRUNED_TEMPERATURE
from prunelake.errors import InvalidCalibrator
from prunelake.lake.run_lookup import PastRun
from prunelake.lake.storage import Location
from prunelake.lake.views import query

CALIBRATOR_FILE = "calibrator.json"

USAGE = (
    "prunelake.analysis.calibrators.load(FILE).confidence([[log-likelihood of each option, in "
    "nats]]): the confidence in the most likely option. The prediction is the same as without it."
)


@dataclass(frozen=True)
class ExportedCalibrator:
    """A calibrator of one run and level: `name` is that of the lake, `fit_rows` its examples.

    `figures` has a row a metric: metric, before, value, ci_low, ci_high, gain, gain_low, gain_high,
    n.
    """

    name: str
    run: PastRun
    level: int
    calibrator: Calibrator
    fit_rows: int
    figures: pl.DataFrame

    def to_json(self) -> str:
        """What the file beside the weights says."""
        return json.dumps(
            {
                "kind": self.calibrator.kind,
                "parameters": self.calibrator.parameters,
                "calibrator": self.name,
                "level": self.level,
                "task": self.run.task,
                "run_id": self.run.run_id,
                "fit_rows": self.fit_rows,
                "how_to_apply": USAGE,
            },
            indent=2,
        )

    def card_section(self) -> list[str]:
        """What the model card says of it."""
        source = " at level 0, of the unpruned model" if self.name == UNPRUNED_TEMPERATURE else ""
        lines = [
            "## Calibrator",
            "",
            f"`{CALIBRATOR_FILE}` is the {self.name} calibrator of run `{self.run.run_id}`, "
            "fitted to its "
            f"{self.fit_rows} predictions on {self.run.task}{source}. It maps the confidence of "
            "this checkpoint on this task, and changes no prediction; on another task nothing is "
            "known of it. Before and after are of the run, where each example was calibrated by "
            "what was fitted to the others; a gain is positive where after is better.",
            "",
            "| metric | before | after | 95 % | gain | 95 % | examples |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_metric_row(row) for row in self.figures.iter_rows(named=True)]
        return [*lines, ""]


def find_calibrator(
    lake: Location, runs: Sequence[PastRun], level: int, name: str
) -> ExportedCalibrator:
    """The calibrator of a level, from the only one of `runs` that has this level.

    Raises:
        InvalidCalibrator: no such calibrator, no run or several with the level, or none fitted.
        LakeError: as `views.query`.
    """
    if name not in CALIBRATOR_NAMES:
        raise InvalidCalibrator(f"--calibrator {name}: choose {', '.join(CALIBRATOR_NAMES)}")
    with_level = [run for run in runs if level in run.levels]
    if not with_level:
        raise InvalidCalibrator(
            f"--calibrator {name}: the lake has no run of this model by this strategy with level "
            f"{level}, whose predictions it would be fitted to; sweep first"
        )
    if len(with_level) > 1:
        told = ", ".join(f"{run.run_id} ({run.task}, {run.dtype})" for run in with_level)
        raise InvalidCalibrator(
            f"--calibrator {name}: a calibrator is of one task, and several runs have level "
            f"{level}; choose one by --run: {told}"
        )
    (run,) = with_level
    key = {"run_id": run.run_id, "level": level, "calibrator": name}
    rows = query(
        lake,
        """
        select parameters, fit_rows, note
        from calibrators
        where run_id = $run_id and level = $level and calibrator = $calibrator
        """,
        **key,
    )
    if rows.is_empty():
        raise InvalidCalibrator(
            f"--calibrator {name}: run {run.run_id} has none at level {level}; `prunelake analyse` "
            "fits them where a run has predictions of single examples"
        )
    parameters, fit_rows, note = rows.row(0)
    if parameters is None:
        raise InvalidCalibrator(
            f"--calibrator {name}: run {run.run_id} has none at level {level}: {note}"
        )
    figures = query(
        lake,
        """
        select metric, before, value, ci_low, ci_high, gain, gain_low, gain_high, n
        from recalibration
        where
            run_id = $run_id
            and level = $level
            and calibrator = $calibrator
            and value is not null
        order by metric
        """,
        **key,
    )
    kind = "temperature" if name == UNPRUNED_TEMPERATURE else name
    return ExportedCalibrator(name, run, level, from_json(kind, parameters), fit_rows, figures)


def _metric_row(row: dict[str, Any]) -> str:
    cells = (
        row["metric"].replace("_", " "),
        f"{row['before']:.3f}",
        f"{row['value']:.3f}",
        _interval(row["ci_low"], row["ci_high"]),
        f"{row['gain']:+.3f}",
        _interval(row["gain_low"], row["gain_high"], "+"),
        str(row["n"]),
    )
    return f"| {' | '.join(cells)} |"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "none"
    return f"{low:{sign}.3f} to {high:{sign}.3f}"
