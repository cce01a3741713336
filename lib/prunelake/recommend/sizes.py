"""Sizes that follow from a model's configuration, for models whose layers are all alike."""

from collections.abc import Mapping
from typing import Any

from prunelake.recommend.candidates import CostValues

EQUAL_LAYERS = frozenset(
    f"{family}ForCausalLM"
    for family in (
        *("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Phi3", "Olmo2", "GPTNeoX"),
    )
)
"""The classes of transformers whose configuration gives all layers the same attention and MLP, so
that each removed layer saves as much as any other."""

SHARES = ("kv_share", "weight_share", "parameter_share")


def size_shares(
    run: Mapping[str, Any], measured: Mapping[int, CostValues]
) -> dict[int, dict[str, float]]:
    """The remaining shares of cache, weights and parameters at each level of a run.

    `run` is a row of `runs`, and `measured` has measured costs by level. The share of the cache
    needs no measurement: an attention layer or a block takes its share of the cache along, an MLP
    takes none. Weights and parameters shrink by the same amount with each layer, so one measured
    level above 0 gives all others. Other units, and models with unequal layers, have no such
    shares.
    """
    count, unit = run["layer_count"], run["unit"]
    if run["architecture"] not in EQUAL_LAYERS or not count:
        return {}
    if unit not in ("attention", "mlp", "block"):
        return {}
    deepest = max((level for level in measured if level > 0), default=None)
    shares: dict[int, dict[str, float]] = {}
    for level in run["levels"]:
        shares[level] = {"kv_share": 1.0 if unit == "mlp" else 1 - level / count}
        for name in SHARES[1:]:
            known = None if deepest is None else measured[deepest].get(name)
            if deepest is not None and known is not None:
                shares[level][name] = 1 - (1 - known) * level / deepest
    return shares
