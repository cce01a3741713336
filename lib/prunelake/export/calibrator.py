"""The calibrator of an exported checkpoint, and its effect on the predictions of its run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.analysis.calibrators import CONFIDENCE_CLIP, Calibrator, from_json
from prunelake.errors import InvalidCalibrator
from prunelake.export.card.markdown import format_interval, format_number, table_row
from prunelake.export.card.model_card import prompt_template
from prunelake.lake.sql.run_lookup import PastRun
from prunelake.lake.sql.views import query
from prunelake.lake.storage.location import Location
from prunelake.schema.calibrators import CALIBRATOR_NAMES, UNPRUNED_TEMPERATURE

CALIBRATOR_FILE = "calibrator.json"

CONFIDENCE = "p is the largest softmax probability of the options' log-likelihoods, in nats"
FORMULAS = {
    "temperature": "the largest softmax probability of the options' log-likelihoods, in nats, "
    "divided by temperature",
    "affine": f"sigmoid(slope * ln(p / (1 - p)) + intercept); {CONFIDENCE}, clipped to "
    "[clip, 1 - clip]",
    "beta": f"sigmoid(a * ln(p) - b * ln(1 - p) + c); {CONFIDENCE}, clipped to [clip, 1 - clip]",
    "isotonic": "calibrated, interpolated linearly at p between the points of confidence, and "
    f"constant outside; {CONFIDENCE}",
    "histogram": "calibrated[number of edges that are at most p], a step function without "
    f"interpolation; {CONFIDENCE}",
}
"""How the parameters of each kind map the confidence in the most likely option."""

LOSSES = ("nll", "top_label_brier")
"""The proper scores of a calibrated confidence; only a temperature has the first."""

USAGE = (
    "prunelake.analysis.calibrators.load(FILE).confidence([[log-likelihood of each option, in "
    "nats]]): the confidence in the most likely option. The prediction is the same as without it."
)


@dataclass(frozen=True)
class ExportedCalibrator:
    """A calibrator that was fitted to one level of one run.

    - `name`: its name in the lake.
    - `fit_rows`: the number of examples that it was fitted to.
    - `metrics`: one row for each metric, with the columns metric, before, value, ci_low, ci_high,
      gain, gain_low, gain_high, n.
    """

    name: str
    run: PastRun
    level: int
    calibrator: Calibrator
    fit_rows: int
    metrics: pl.DataFrame

    def to_json(self) -> str:
        """The text of the file `calibrator.json` beside the weights."""
        return json.dumps(
            {
                "kind": self.calibrator.kind,
                "parameters": self.calibrator.parameters,
                "formula": FORMULAS[self.calibrator.kind],
                "clip": CONFIDENCE_CLIP if self.calibrator.kind in ("affine", "beta") else None,
                "prompt_template": prompt_template(self.run.task),
                "calibrator": self.name,
                "level": self.level,
                "task": self.run.task,
                "run_id": self.run.run_id,
                "fit_rows": self.fit_rows,
                "how_to_apply": USAGE,
            },
            indent=2,
        )

    @property
    def warning(self) -> str | None:
        """Why the calibrator is no improvement, as a sentence; None if its losses are smaller."""
        worse = [
            f"{row['metric'].replace('_', ' ')} ({row['before']:.3f} to {row['value']:.3f})"
            for row in self.metrics.iter_rows(named=True)
            if row["metric"] in LOSSES and row["gain"] is not None and row["gain"] < 0
        ]
        if not worse:
            return None
        return (
            f"the calibrator {self.name} is no improvement: on held-out examples of "
            f"{self.run.task} it increases {' and '.join(worse)}; take another, or none"
        )

    def card_section(self) -> list[str]:
        """The lines of the calibrator's section in the model card."""
        source = " at level 0, of the unpruned model" if self.name == UNPRUNED_TEMPERATURE else ""
        lines = [
            "## Calibrator",
            "",
            f"`{CALIBRATOR_FILE}` is the {self.name} calibrator of run `{self.run.run_id}`, "
            f"fitted to its {self.fit_rows} predictions on {self.run.task}{source}. It maps the "
            "confidence of this checkpoint on this task and changes no prediction; its effect on "
            "another task is unknown. The table compares the run before and after calibration, "
            "where a calibrator fitted to the other examples calibrated each example. A positive "
            "gain is an improvement.",
            "",
            "| metric | before | after | 95 % | gain | 95 % | examples |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_metric_row(row) for row in self.metrics.iter_rows(named=True)]
        if self.warning is not None:
            lines += ["", f"Warning: {self.warning}."]
        return [*lines, ""]


def find_calibrator(
    lake: Location, runs: Sequence[PastRun], level: int, name: str
) -> ExportedCalibrator:
    """The calibrator `name` of a level, from the only run among `runs` that has this level.

    Raises:
        InvalidCalibrator: an unknown name, no run or several runs with this level, or a run without
            this calibrator.
        LakeError: as `views.query`.
    """
    if name not in CALIBRATOR_NAMES:
        raise InvalidCalibrator(f"calibrator {name}: choose {', '.join(CALIBRATOR_NAMES)}")
    with_level = [run for run in runs if level in run.levels]
    if not with_level:
        raise InvalidCalibrator(
            f"calibrator {name}: it is fitted to a run of this model and strategy with level "
            f"{level}, and the lake has none; sweep first"
        )
    if len(with_level) > 1:
        choices = ", ".join(f"{run.run_id} ({run.task}, {run.dtype})" for run in with_level)
        raise InvalidCalibrator(
            f"calibrator {name}: a calibrator belongs to one task, and several runs have level "
            f"{level}; choose one with --run: {choices}"
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
            f"calibrator {name}: run {run.run_id} has none at level {level}; `prunelake analyse` "
            "fits calibrators to runs with predictions of single examples"
        )
    parameters, fit_rows, note = rows.row(0)
    if parameters is None:
        raise InvalidCalibrator(
            f"calibrator {name}: run {run.run_id} has none at level {level}: {note}"
        )
    metrics = query(
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
    return ExportedCalibrator(name, run, level, from_json(kind, parameters), fit_rows, metrics)


def _metric_row(row: dict[str, Any]) -> str:
    return table_row(
        row["metric"].replace("_", " "),
        format_number(row["before"]),
        format_number(row["value"]),
        format_interval(row["ci_low"], row["ci_high"]),
        format_number(row["gain"], is_change=True),
        format_interval(row["gain_low"], row["gain_high"], is_change=True),
        str(row["n"]),
    )
