"""The size of a model's weights in its number format, without loading them."""

from collections.abc import Collection

from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.expert_deletion import deleted_experts
from prunelake.models.files.checkpoints import skeleton
from prunelake.models.files.weight_files import stored_bytes
from prunelake.models.loading import ModelSource
from prunelake.models.precision import weight_dtype
from prunelake.spec import Dtype, Unit


def weight_bytes(
    source: ModelSource, dtype: Dtype, unit: Unit, removed_layers: Collection[int]
) -> int | None:
    """The bytes of the weights that remain without a unit of these layers, or these experts.

    Tied weights count once. Quantised weights have the size of their files; None if some of those
    are removed.
    """
    if source.quantisation:
        return None if removed_layers else stored_bytes(source.folder)
    model = skeleton(source.folder, weight_dtype(dtype), bool(source.remote_code))
    if unit == "expert":
        with deleted_experts(model, removed_layers):
            return sum(weight.nbytes for weight in model.parameters())
    weights = {id(weight): weight.nbytes for weight in model.parameters()}
    parts = removable_parts(model, unit) if removed_layers else ()
    for layer in removed_layers:
        for part in parts[layer]:
            for weight in part.module.parameters():
                weights.pop(id(weight), None)
    return sum(weights.values())
