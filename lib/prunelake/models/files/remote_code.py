"""Models that bring their own code: whether it may run, and the hash of the code. No torch here."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunelake.errors import ModelError, UnsupportedModel
from prunelake.models.references import hash_files

CODE_FILE_PATTERN = "*.py"


def code_references(config: Mapping[str, Any]) -> list[str]:
    """The classes that a config.json takes from the model's own code: `modeling_x.Model`."""
    classes = config.get("auto_map")
    if not isinstance(classes, Mapping):
        return []
    found = [classes.get(name) for name in ("AutoConfig", "AutoModelForCausalLM")]
    return [name for name in found if isinstance(name, str)]


def check_remote_code(config: Mapping[str, Any], reference: str, trust_remote_code: bool) -> None:
    """Refuse a model that needs its own code, unless the user trusts it.

    Code in another repository is always refused: the model's revision does not determine it.

    Raises:
        ModelError: such a model.
    """
    names = code_references(config)
    if not names:
        return
    if not trust_remote_code and not transformers_knows(config.get("model_type")):
        files = ", ".join(
            sorted({f"{name.rpartition('.')[0].rpartition('--')[2]}.py" for name in names})
        )
        raise UnsupportedModel(
            f"model {reference} needs its own code ({files}), which could do anything on this "
            "machine; read it, and then sweep it with --trust-remote-code"
        )
    if trust_remote_code and (foreign := [name for name in names if "--" in name]):
        raise ModelError(
            f"model {reference} takes its code from another repository ({foreign[0]}), which the "
            "model's revision does not determine; copy model and code into one folder"
        )


def remote_code_hash(config: Mapping[str, Any], folder: Path, trust_remote_code: bool) -> str:
    """The hash of the model's own code; empty if the model runs without code of its own."""
    if not trust_remote_code or not (code_references(config) or _tokenizer_has_code(folder)):
        return ""
    return hash_files(sorted(folder.glob(CODE_FILE_PATTERN)))


def _tokenizer_has_code(folder: Path) -> bool:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "auto_map" in config


def transformers_knows(model_type: Any) -> bool:
    """Whether the source of the installed transformers has a model of this type.

    Importing its table of types would load torch.
    """
    transformers = find_spec("transformers")
    if transformers is None or not transformers.submodule_search_locations:
        return False
    folder = Path(transformers.submodule_search_locations[0]) / "models" / "auto"
    texts = [
        file.read_text(encoding="utf-8")
        for file in (folder / "auto_mappings.py", folder / "configuration_auto.py")
        if file.is_file()
    ]
    named = (f'("{model_type}", "', f'"{model_type}": "')
    return not texts or any(name in text for text in texts for name in named)
