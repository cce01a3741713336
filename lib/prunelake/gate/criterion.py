"""One criterion of a gate: how much worse a metric may be."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

from pydantic import field_validator, model_validator

from prunelake.errors import shortened
from prunelake.explanation_spec import AopcVariant, Method, Operator
from prunelake.schema.calibrators import CALIBRATOR_NAMES, RECALIBRATED_METRICS
from prunelake.schema.metrics import (
    AGREEMENT_METRICS,
    AOPC_METRICS,
    EXPLANATION_METRICS,
    METRIC_DEFINITIONS,
    MetricDefinition,
)
from prunelake.spec import FrozenValue

Direction = Literal["higher", "lower"]
"""The better direction of a metric."""


class Criterion(FrozenValue):
    """One criterion: a metric may get worse by less than `margin` on a task.

        Criterion(metric="accuracy", task="arc_easy", margin=0.02)

    The margin is in the unit of the metric; by default it is the margin that the metric declares.
    `direction` says which direction is better: `higher` or `lower`. It is only needed for a metric
    without a direction of its own. Without `task`, the criterion counts on every task of the gate.
    `method`, `operator` and `variant` choose among the explanations of a run, or `variant` names a
    calibrator; by default the row counts that represents the metric (the view `headline_keys`).
    """

    metric: str
    margin: float = math.nan
    direction: Direction | None = None
    task: str | None = None
    method: str | None = None
    operator: str | None = None
    variant: str | None = None

    @field_validator("metric")
    @classmethod
    def _require_known_metric(cls, metric: str) -> str:
        if metric not in METRIC_DEFINITIONS:
            close = get_close_matches(metric, METRIC_DEFINITIONS, 1)
            remedy = f"did you mean {close[0]}?" if close else "choose one of"
            choices = "" if close else f" {', '.join(METRIC_DEFINITIONS)}"
            raise ValueError(f"no metric {shortened(metric)!r}; {remedy}{choices}")
        return metric

    @field_validator("margin", mode="before")
    @classmethod
    def _require_number(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < float("inf"):
            raise ValueError(f"{shortened(repr(value))} is not a number above 0, like 0.02")
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{shortened(str(value))} is too large; 0.02 is usual") from error

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        definition = self.definition
        name, declared = self.metric, definition.higher_is_better
        if name == "beneficial_flip_rate":
            raise ValueError(
                "beneficial_flip_rate cannot fall below the baseline's 0; leave it out"
            )
        if declared is None and self.direction is None:
            raise ValueError(f"{name} has no better direction; give direction: higher or lower")
        if declared is not None and self.direction not in (None, _direction(declared)):
            raise ValueError(
                f"direction {self.direction}: {_direction(declared)} is better for {name}; leave "
                "direction out"
            )
        width = definition.high - definition.low
        if self.margin >= width:
            raise ValueError(
                f"margin {self.margin:g}: {name} lies between {definition.low:g} and "
                f"{definition.high:g} ({definition.unit}), so every candidate would pass; "
                f"{definition.margin:g} is usual"
            )
        for field, allowed in self._allowed_choices().items():
            value = getattr(self, field)
            if value is not None and value not in allowed:
                remedy = f"choose {', '.join(allowed)}" if allowed else f"leave {field} out"
                raise ValueError(f"{field} {value!r} does not apply to {name}; {remedy}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_margin(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "margin" not in value:
            definition = METRIC_DEFINITIONS.get(str(value.get("metric")))
            return {**value, "margin": definition.margin} if definition else value
        return value

    def _allowed_choices(self) -> Mapping[str, tuple[str, ...]]:
        """The choices of the fields that name a row of the metric."""
        if self.metric in AOPC_METRICS:
            methods, operators, variants = (
                get_args(Method),
                get_args(Operator),
                get_args(AopcVariant),
            )
        elif self.metric in AGREEMENT_METRICS:
            methods, operators, variants = get_args(Method), (), ()
        else:
            is_recalibrated = self.metric in RECALIBRATED_METRICS
            methods, operators, variants = (), (), CALIBRATOR_NAMES if is_recalibrated else ()
        return {"method": methods, "operator": operators, "variant": variants}

    @property
    def definition(self) -> MetricDefinition:
        """The definition of the metric."""
        return METRIC_DEFINITIONS[self.metric]

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the metric is better."""
        declared = self.definition.higher_is_better
        return self.direction == "higher" if declared is None else declared

    @property
    def needs_explanations(self) -> bool:
        """Whether the metric belongs to explanations."""
        return self.metric in EXPLANATION_METRICS

    @property
    def key(self) -> tuple[str | None, ...]:
        """The value that the criterion limits: two criteria must not limit the same value."""
        return self.metric, self.method, self.operator, self.variant


def _direction(higher_is_better: bool) -> Direction:
    return "higher" if higher_is_better else "lower"
