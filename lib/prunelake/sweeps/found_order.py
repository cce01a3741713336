"""The removal order of a model outside a sweep: from the runs of the lake, or computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from prunelake.errors import InvalidSpec
from prunelake.lake.sql.run_lookup import PastRun, runs_removing_same_layers, shared_dtype
from prunelake.models.decoder.text_model import context_length
from prunelake.models.files.checkpoints import read_config
from prunelake.models.loading import ModelSource, load_tokenizer
from prunelake.settings import Settings
from prunelake.spec import Calibration, Dtype, Strategy
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.order_cache import OrderCache
from prunelake.sweeps.plan import calibration_windows
from prunelake.tasks.encoding import Encoder


@dataclass(frozen=True)
class FoundOrder:
    """A removal order: `layers` lists all layers, first removed first.

    `runs` are the runs of the lake that agree on the removed layers, the chosen run first; empty
    for a computed order. `dtype` is the number format to load the model in. `origin` describes the
    source of the order.
    """

    layers: tuple[int, ...]
    dtype: Dtype
    runs: tuple[PastRun, ...]
    origin: str


def find_removal_order(
    source: ModelSource,
    strategy: Strategy,
    levels: Sequence[int],
    runs: Sequence[PastRun],
    settings: Settings,
    load: Callable[[Dtype], PreTrainedModel],
    log: Callable[[str], None],
    *,
    chosen_run: str | None = None,
    dtype: Dtype | None = None,
    calibration: Calibration,
) -> FoundOrder:
    """The order of the lake's runs, or, without runs, the order that a sweep would compute.

    Args:
        levels: the levels at which all `runs` have to remove the same layers, ascending.
        runs: the lake's runs of this model and strategy (`run_lookup.past_runs`).
        load: loads the model in a number format; called only if the order is computed.
        log: receives one line before an order is computed.
        chosen_run: the id of the run to follow if several runs differ.
        dtype: the number format; None means the number format of the runs, or float32 without runs.
        calibration: the text on which an order is computed.

    Raises:
        InvalidSpec: as `run_lookup.runs_removing_same_layers`, `run_lookup.shared_dtype` and
            `compute_removal_order`.
        ModelError: as `compute_removal_order`.
    """
    for level in levels:
        runs = runs_removing_same_layers(runs, level, chosen_run)
    if runs:
        dtype = dtype or shared_dtype(runs[:1] if chosen_run else runs)
        origin = f"run {runs[0].run_id} of the lake"
        return FoundOrder(runs[0].removal_order, dtype, tuple(runs), origin)
    log(
        f"the lake in {settings.lake} has no run of this model by {strategy.label}: computing its "
        "order, unless the cache has it"
    )
    dtype = dtype or "float32"
    layers = compute_removal_order(
        source, strategy, max(levels), calibration, settings, dtype, load
    )
    text = calibration.source if strategy.reads_text else "none"
    return FoundOrder(layers, dtype, (), f"computed for this export (calibration text: {text})")


def compute_removal_order(
    source: ModelSource,
    strategy: Strategy,
    depth: int,
    calibration: Calibration,
    settings: Settings,
    dtype: Dtype,
    load: Callable[[Dtype], PreTrainedModel],
) -> tuple[int, ...]:
    """All layers in the order in which a sweep of this model would remove them.

    A greedy strategy measures again after each removal, but only for the first `depth` removals;
    the order behind them has no meaning. `load` is called after all other checks. An order that
    reads text is kept in the cache of the settings, and then taken from there.

    Raises:
        InvalidSpec: the strategy needs examples of a task, or the calibration text does not fit.
        ModelError: the model cannot be loaded, or its numbers overflow.
    """
    if strategy.reads_rows:
        raise InvalidSpec(
            f"strategy {strategy.label} searches its order on examples of a task: run a sweep "
            "first; its run in the lake then gives the order"
        )
    longest = context_length(read_config(source.folder).get_text_config())
    windows = calibration_windows(
        strategy, calibration, Encoder(load_tokenizer(source)), settings.data, longest
    )
    cache = OrderCache(settings.cache.expanduser(), source, strategy, dtype, windows)
    if strategy.reads_text and (known := cache.read(depth)):
        return known
    layers = removal_order(load(dtype), strategy, windows, depth=depth).layers
    if strategy.reads_text:
        cache.write(layers, depth)
    return layers
