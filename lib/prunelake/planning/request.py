"""The request for a plan: a model, a task, levels, margins and a power."""

from prunelake.frozen_value import Levels
from prunelake.recommend.request import CalibrationMetric, Margins
from prunelake.schema.verdicts import DEFAULT_POWER
from prunelake.spec import FrozenValue, Strategy


class PlanRequest(FrozenValue):
    """A request for a plan.

        PlanRequest(model="SmolLM2-135M", task="arc_easy", margins=Margins.with_default(0.02))

    `model` is a model reference or, if the lake has it, its last part. Without `levels`, the plan
    covers the levels of the lake's runs. `power` is the probability that a verdict is decided, and
    right. The sweep of the plan has at most `split_rows` rows, by default the size of the split
    that the lake's runs know.
    """

    model: str
    task: str
    strategy: Strategy = Strategy()
    levels: Levels | None = None
    margins: Margins = Margins()
    calibration: CalibrationMetric = CalibrationMetric.ece
    power: float = DEFAULT_POWER
    split_rows: int | None = None
