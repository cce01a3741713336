"""Put the code of a compact checkpoint beside its weights, so that transformers alone loads it."""

import json
import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunelake.errors import UnsupportedModel
from prunelake.export.tested_versions import COMPACT_CODE_TYPES, oldest_version
from prunelake.export.transformers4 import older_rope, write_older_tokenizer
from prunelake.models.decoder import modeling_prunelake
from prunelake.models.decoder.block_parts import block_norms
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.files.checkpoints import COMPACT_MODEL_TYPE

CODE_FILE = "modeling_prunelake.py"
MODULE = CODE_FILE.removesuffix(".py")


def add_code(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the code to a compact checkpoint, and the names by which transformers finds it.

    Args:
        folder: it was written by `save_compact`.
        model: the model as it was given to `save_compact`.
        tokenizer: the tokenizer that was saved there.

    Raises:
        UnsupportedModel: the class of the model is not one of transformers.
    """
    names = {"BaseConfig": type(model.config).__name__, "BaseModel": type(model).__name__}
    if missing := [name for name in names.values() if not hasattr(transformers, name)]:
        raise UnsupportedModel(
            f"--with-code: transformers has no {missing[0]}, from which the code could derive; "
            "take --kind compact without it"
        )
    code = Path(str(modeling_prunelake.__file__)).read_text(encoding="utf-8")
    for own, name in names.items():
        code = re.sub(rf"import \w+ as {own}\b", f"import {name} as {own}", code)
    (folder / CODE_FILE).write_text(code, encoding="utf-8")
    file = folder / "config.json"
    marker = json.loads(file.read_text(encoding="utf-8"))
    del marker["configuration_files"]
    model_type = marker["config"]["model_type"]
    if model_type in COMPACT_CODE_TYPES:
        marker["config"] |= older_rope(marker["config"])
        write_older_tokenizer(folder, tokenizer, PreTrainedTokenizerFast)
    marker |= {
        "model_type": COMPACT_MODEL_TYPE,
        "auto_map": {
            "AutoConfig": f"{MODULE}.CompactConfig",
            "AutoModelForCausalLM": f"{MODULE}.CompactForCausalLM",
        },
        "needs_transformers": oldest_version(model_type, COMPACT_CODE_TYPES),
        "weights": next(
            name
            for name in ("compact.safetensors.index.json", "compact.safetensors")
            if (folder / name).is_file()
        ),
        "absent_modules": dict(_absent_modules(model, marker)),
    }
    file.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def load_by_code(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a checkpoint by the code beside it."""
    spec = spec_from_file_location(MODULE, folder / CODE_FILE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    model: PreTrainedModel = module.CompactForCausalLM.from_pretrained(folder, dtype=dtype)
    return model


def _absent_modules(
    model: PreTrainedModel, marker: dict[str, Any]
) -> Iterator[tuple[str, tuple[str, dict[str, Any] | None]]]:
    """The path of each absent module, and its form, as `modeling_prunelake` reads it."""
    paths = {id(module): name for name, module in model.named_modules()}
    absent = {(part["block"], part["name"]): part for part in marker["absent_parts"]}
    for block in decoder_blocks(model):
        path = paths[id(block.module)]
        for part in block.parts:
            if stored := absent.get((block.index, part.name)):
                form = "residual" if part.adds_residual else "placeholder"
                yield f"{path}.{part.name}", ("silent" if part.is_read_later else form, stored)
        if block.index in marker["absent_norms"]:
            for name in block_norms(block.module):
                yield f"{path}.{name}", ("identity", None)
