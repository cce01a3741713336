"""The removal order that a sweep of a model would find, for those who need no sweep."""

from collections.abc import Callable

from transformers import PreTrainedModel

from prunelake.errors import InvalidSpec
from prunelake.models.loading import ModelSource
from prunelake.settings import Settings
from prunelake.spec import Calibration, Dtype, Rows, Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweep.plan import plan_sweep


def compute_removal_order(
    source: ModelSource,
    strategy: Strategy,
    depth: int,
    calibration: Calibration,
    dtype: Dtype,
    settings: Settings,
    model: Callable[[], PreTrainedModel],
) -> tuple[int, ...]:
    """The layers that a sweep of this model would remove, all of them, first removed first.

    Behind the first `depth` their order is of no meaning where the strategy measures again after
    each removal. `model` is asked for when all else is known to be right.

    Raises:
        InvalidSpec: an order that is searched on examples, which are those of some task.
        ModelError: as what it calls.
    """
    if strategy.reads_rows:
        raise InvalidSpec(
            f"an order by {strategy.label} is searched on examples of a task: sweep first, "
            "and take the order from the lake that has the run"
        )
    spec = SweepSpec(
        model=source.reference,
        task="opinions",  # a plan is of some task; this one's rows are at hand
        rows=Rows(first=1),
        levels=(0, depth),
        strategy=strategy,
        calibration=calibration,
        explain=None,
        dtype=dtype,
    )
    work = plan_sweep(spec, settings)
    return removal_order(model(), strategy, work.calibration_windows, depth=depth).layers
