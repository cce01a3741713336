"""Save a model without modules of its blocks, as a compact checkpoint."""

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedModel

from prunelake.models.decoder.block_parts import block_norms
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.decoder.modeling_prunelake import AbsentPart
from prunelake.models.decoder.placeholders import absent_parts, check_not_shared
from prunelake.models.decoder.selection import blocks_without_norms, selected_absent_parts
from prunelake.models.files.checkpoints import COMPACT_MODEL_TYPE, REFUSED_CONFIGURATION_FILE
from prunelake.spec import Unit


def save_compact(
    model: PreTrainedModel,
    layers: Collection[int],
    folder: Path,
    unit: Unit = "attention",
    max_shard_size: str = "50GB",
) -> None:
    """Save a model without a unit of `layers`, and without the modules that it lacks already.

    `loading.load_model` loads it. transformers alone refuses it, by `configuration_files` in
    config.json; otherwise it would fill in random weights. `export.compact_code` adds code by which
    transformers loads it. The weights have a special file name, so the model's own class refuses
    the folder, too.

    Raises:
        UnknownLayer, UnsupportedModel: as `removal.removed`.
    """
    absent = sorted(
        {*absent_parts(model), *selected_absent_parts(model, layers, unit)}, key=_position
    )
    blocks = {block.index: block for block in decoder_blocks(model)}
    check_not_shared(blocks.values(), absent)
    without_norms = blocks_without_norms(model, absent)
    left_out: set[int] = set()
    for index, block in blocks.items():
        own = {part.name for part in absent if part.block == index}
        gone = [part for part in block.parts if part.name in own and not part.is_read_later]
        left_out |= {id(part.module) for part in gone}
        if index in without_norms:
            left_out |= {id(norm) for norm in block_norms(block.module).values()}
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if id(module) in left_out)
    tied: Any = model.all_tied_weights_keys  # transformers 4 looks for the names that remain
    weights = {
        k: v for k, v in model.state_dict().items() if not k.startswith(prefixes) and k not in tied
    }
    save_torch_state_dict(
        weights,
        folder,
        filename_pattern="compact{suffix}.safetensors",
        max_shard_size=max_shard_size,
        metadata={"format": "pt"},
    )
    config = json.loads(model.config.to_json_string())
    config |= {"architectures": [type(model).__name__], "dtype": str(model.dtype).split(".")[-1]}
    marker = {
        "model_type": COMPACT_MODEL_TYPE,
        "configuration_files": [REFUSED_CONFIGURATION_FILE],
        "loads_with": "prunelake.models.loading.load_model",
        "absent_attention": sorted({part.block for part in absent if part.kind == "attention"}),
        "absent_mlp": sorted({part.block for part in absent if part.kind in ("mlp", "experts")}),
        "absent_parts": [asdict(part) for part in absent],
        "absent_norms": without_norms,
        "config": config,
    }
    text = json.dumps(marker, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _position(part: AbsentPart) -> tuple[int, str]:
    return part.block, part.name
