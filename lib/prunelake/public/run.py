"""A run of a lake: its metrics, verdicts, charts and calibrators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from prunelake.analysis.calibrators import Calibrator
from prunelake.export.calibrator import find_calibrator
from prunelake.lake.sql import views
from prunelake.lake.sql.run_lookup import find_run
from prunelake.lake.storage.location import Location

if TYPE_CHECKING:
    from prunelake.public.chart import RunChart

METRIC_COLUMNS = ("level", "metric", "value", "ci_low", "ci_high", "random_value", "n")
VERDICT_COLUMNS = (
    *("level", "metric", "verdict", "delta", "delta_low", "delta_high"),
    *("smallest_detectable", "n_needed"),
)


@dataclass(frozen=True)
class Run:
    """One model on one task at several removal levels, or candidates beside a baseline.

    `sweep`, `compare` and `Lake.run` return a `Run`. The frames of a comparison have the column
    `label` with the names of the candidates.

    - `lake`: the folder or object store that holds the run.
    - `id`: the run's id, `run_id` in SQL.
    """

    lake: Location
    id: str

    def metrics(self) -> pl.DataFrame:
        """Each metric at each level, with its 95 % interval (`ci_low`, `ci_high`).

            run.metrics().filter(metric="ece")

        `random_value` is the value of a random ranking of tokens, for metrics of explanations; `n`
        is the number of examples. A metric that could not be computed has no row.
        """
        return _named(self._headline_metrics().drop_nulls("value"), METRIC_COLUMNS)

    def verdicts(self) -> pl.DataFrame:
        """The verdict on each metric at each level above 0.

            run.verdicts().filter(verdict="hidden degradation")

        `delta` is the change from level 0 with its 95 % interval. An inconclusive verdict has the
        smallest effect that the test could have found, and the number of examples that it needs.
        docs/statistics.md defines the verdicts.
        """
        return _named(self._headline_metrics().drop_nulls("verdict"), VERDICT_COLUMNS)

    def chart(
        self, name: str, *, level: int | None = None, metric: str | None = None
    ) -> "RunChart":
        """A chart of this run, which a notebook shows as a picture.

            run.chart("levels", metric="nll")
            run.chart("reliability", level=4).save("reliability.png")

        By default the level is the deepest level with stable accuracy, and the metric is `ece`.

        Raises:
            NotFound: no such chart, level or metric; the message names the choices.
            NothingToShow: the run lacks the data of the chart.
        """
        from prunelake.public.chart import draw

        return draw(self.lake, self.id, name, level, metric)

    def calibrator(self, name: str = "temperature", *, level: int) -> Calibrator:
        """A calibrator that was fitted to all predictions of this run at a level.

            calibrator = run.calibrator("temperature", level=4)
            calibrator.confidence([[-3.2, -4.1], [-2.0, -2.5]])

        It maps the log-likelihoods of the options of each example to the confidence in the most
        likely option. The names are those of `prunelake export --calibrator`.

        Raises:
            InvalidCalibrator: an unknown name, a level that the run does not have, or a run without
                predictions of single examples.
        """
        return find_calibrator(self.lake, [find_run(self.lake, self.id)], level, name).calibrator

    def _headline_metrics(self) -> pl.DataFrame:
        from prunelake.api.queries.run_metrics import headline_metrics

        with views.connect(self.lake, [self.id]) as connection:
            return headline_metrics([self.id]).rows(connection)


def _named(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """These columns; and the labels behind the levels if they say more than the levels."""
    if (rows["label"] == rows["level"].cast(pl.String)).all():
        return rows.select(columns)
    return rows.select(columns[0], "label", *columns[1:])
