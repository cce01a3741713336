"""The section of a model card on loading the checkpoint."""

from prunelake.export.tested_versions import (
    COMPACT_CODE_TYPES,
    MODEL_TYPES,
    TRANSFORMERS_4,
    oldest_version,
)
from prunelake.spec import UNIT_NAMES, CheckpointKind, Unit

GONE: dict[Unit, str] = {
    "expert": "The removed experts have no weights, and config.json counts the others.",
    "block": "The removed blocks have no weights and no KV cache: config.json counts the others, "
    "so this is a plain model with fewer blocks. If config.json counts all blocks, the blocks "
    "depend on their place, and the output projections of the removed blocks are zero.",
}


TRUSTING_CODE = (
    "```python",
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    'model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)',
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER", trust_remote_code=True)',
    "```",
)


def loading_section(
    kind: CheckpointKind, unit: Unit, model_type: str, with_code: bool
) -> list[str]:
    """The code that loads a checkpoint, and the parts that it lacks."""
    has_cache = unit not in ("mlp", "expert")
    if kind is CheckpointKind.portable:
        cached = ", and so is their KV cache" if has_cache else ""
        return [
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            "```",
            "",
            GONE[unit]
            if unit in GONE
            else f"The output projections of the removed {UNIT_NAMES[unit]} are zero. Their "
            f"weights are still there{cached}: this checkpoint is as large and as slow as the "
            "unpruned model.",
            "",
            _tested_versions(model_type),
        ]
    cached = " and their KV cache" if has_cache else ""
    if kind is CheckpointKind.gguf:
        return [
            "```sh",
            "llama-cli -m FOLDER/model.gguf",
            "```",
            "",
            f"The weights of the removed {UNIT_NAMES[unit]}{cached} are gone. "
            + (
                "The file is a plain llama with fewer blocks."
                if unit == "block"
                else "llama.cpp runs the file in its graph deci, a Llama whose blocks may have no "
                "heads."
            ),
        ]
    if kind is CheckpointKind.nemotron_nas:
        return [
            "```sh",
            "vllm serve FOLDER --trust-remote-code",
            "```",
            "",
            *TRUSTING_CODE,
            "",
            f"The weights of the removed {UNIT_NAMES[unit]}{cached} are gone. vLLM reads the "
            "folder by its own class DeciLMForCausalLM; this was compared with the source of vLLM, "
            "not tried on a GPU. transformers 4.57 and 5 run the two Python files of this folder.",
        ]
    if with_code:
        return [
            *TRUSTING_CODE,
            "",
            f"The weights of the removed {UNIT_NAMES[unit]}{cached} are gone. The code, "
            "`modeling_prunelake.py` in this folder, derives from the class of the model in "
            "transformers; read it before you trust it. PruneLake loads the folder without it.",
            "",
            f"Needs transformers {oldest_version(model_type, COMPACT_CODE_TYPES)} or newer, and "
            "refuses an older one.",
        ]
    return [
        "```python",
        "from pathlib import Path",
        "from prunelake.models.loading import load_model",
        "from prunelake.models.sources import resolve_model",
        "",
        'loaded = load_model(resolve_model("FOLDER", Path("cache")))',
        "model, tokenizer = loaded.model, loaded.tokenizer",
        "```",
        "",
        f"The weights of the removed {UNIT_NAMES[unit]}{cached} are gone. transformers has no "
        "configuration for such a model and would fill in random weights, so `from_pretrained` "
        "refuses this folder.",
    ]


def _tested_versions(model_type: str) -> str:
    if model_type in MODEL_TYPES:
        return f"Needs transformers {TRANSFORMERS_4} or newer."
    return (
        f"Needs transformers 5 or newer. transformers 4 may load it with other settings of its "
        f"{model_type} model, and then computes other logits without an error."
    )
