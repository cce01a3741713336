"""The type of the fixture that plans a sweep, and the context of its model."""

from collections.abc import Callable

from prunelake.sweeps.plan import SweepPlan

CONTEXT = 512  # tokens
Planner = Callable[..., SweepPlan]
