"""The config.json of a model that lies on this machine, and refusals that follow from it.

Nothing here loads torch, reads weights or asks the hub.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prunelake.errors import UnsupportedModel
from prunelake.models.files.remote_code import (
    check_remote_code,
    code_references,
    transformers_knows,
)
from prunelake.models.quantisation import (
    check_packages,
    check_row_independence,
    read_quantisation,
)


def saved_config(reference: str) -> dict[str, Any]:
    """The content of a model's config.json; empty if it is not on this machine or not an object.

    For a compact checkpoint, it is the configuration of the unpruned model.
    """
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        from huggingface_hub import try_to_load_from_cache

        repository, _, revision = rest.partition("@")
        file = try_to_load_from_cache(repository, "config.json", revision=revision or None)
        return read_config_file(Path(file)) if isinstance(file, str) else {}
    if kind == "package" or reference.endswith(".gguf"):
        return {}
    return read_config_file(Path(reference).expanduser() / "config.json")


def read_config_file(file: Path) -> dict[str, Any]:
    """The content of a config.json; empty if it cannot be read, which loading the model reports."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if isinstance(config, dict) and isinstance(config.get("config"), dict):
        config = config["config"]  # a compact checkpoint nests it
    return config if isinstance(config, dict) else {}


def check_config(config: dict[str, Any], reference: str, trust_remote_code: bool) -> None:
    """Refuse a model that this installation cannot or must not load, from its config.json.

    Raises:
        ModelError: the weights are quantised by a method whose package is not installed, or so that
            rows depend on each other; or transformers does not know the type of the model, or it is
            an encoder-decoder; or as `remote_code.check_remote_code`.
    """
    check_remote_code(config, reference, trust_remote_code)
    if config:
        _check_type(config, reference)
    check_row_independence(config, reference)
    if quantisation := read_quantisation(config):
        check_packages(quantisation, reference)


def _check_type(config: dict[str, Any], reference: str) -> None:
    """Refuse a type of model that transformers does not know, an encoder-decoder, and no layers."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return  # transformers reports it
    if not code_references(config) and not transformers_knows(model_type):
        raise UnsupportedModel(
            f"model {reference} has the type {model_type!r}, which transformers "
            f"{version('transformers')} does not know; a newer version may"
        )
    if config.get("is_encoder_decoder") is True:
        raise UnsupportedModel(
            f"model {reference} ({model_type}) is an encoder-decoder; PruneLake evaluates decoders"
        )
