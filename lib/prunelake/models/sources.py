"""Find the weights behind a model reference."""

import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer, PreTrainedModel

from prunelake.errors import ModelNotFound, UnsupportedModel, one_line
from prunelake.models.decoder.level_range import level_range
from prunelake.models.files.checkpoints import (
    is_compact,
    load_complete_model,
    quiet_transformers,
    read_config,
    skeleton,
)
from prunelake.models.files.gguf_header import check_gguf_file
from prunelake.models.files.remote_code import CODE_FILE_PATTERN, remote_code_hash
from prunelake.models.files.saved_config import check_config, read_config_file
from prunelake.models.files.weight_files import check_weight_files
from prunelake.models.loading import ModelSource, read_tokenizer
from prunelake.models.quantisation import read_quantisation
from prunelake.models.references import (
    MODEL_FILE_PATTERNS,
    cache_staging_folder,
    cached_hash,
    check_reference,
    hash_files,
    model_files,
    package_gguf_file,
)
from prunelake.spec import Unit


def resolve_model(
    reference: str,
    cache: Path,
    unit: Unit = "attention",
    uses_known_hash: bool = False,
    trust_remote_code: bool = False,
    needs_tokenizer: bool = False,
) -> ModelSource:
    """The weights that a model reference names, not yet loaded.

    A hub repository is downloaded. A GGUF file is dequantised once and kept as safetensors under
    `cache`, in a folder named by the file's hash. The layer count counts the layers with this unit.
    With `uses_known_hash`, the hash of local files comes from `cache` if their sizes and times have
    not changed since. `trust_remote_code` lets code run that the model brings along.
    `needs_tokenizer` checks the tokenizer before the weights are hashed, which may take minutes.

    Raises:
        ModelNotFound: no weights there (the message lists the forms of a reference), or their
            config.json, or a tokenizer that is needed, cannot be read.
        ModelError: `cache` cannot be written.
        UnsupportedModel: not a decoder from which this unit can be removed.
    """
    # Weights can be large: all refusals come before their download or hash.
    hashed = partial(cached_hash, cache=cache) if uses_known_hash else hash_files
    folder, revision, config = _find_config(reference, cache, hashed, trust_remote_code)
    remote_code = remote_code_hash(config, folder, trust_remote_code)
    skeleton = _model_without_weights(folder, bool(remote_code))
    levels = level_range(skeleton, unit)
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        folder, revision = _from_hub(rest, folder.name)
    quantisation = read_quantisation(config)
    is_comparable = quantisation is None and not is_compact(folder)
    described = sum(weight.numel() for weight in skeleton.parameters()) if is_comparable else None
    check_weight_files(folder, reference, described)
    if needs_tokenizer:
        read_tokenizer(folder, reference, bool(remote_code))
    return ModelSource(
        reference,
        revision or hashed(model_files(folder)),
        folder,
        type(skeleton).__name__,
        levels.layer_count,
        quantisation.name if quantisation else "",
        remote_code,
        levels.deepest if levels.deepest < levels.layer_count else None,
    )


def model_skeleton(
    reference: str, cache: Path, *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The modules of a model without weights; of a hub repository, only config.json is read.

    Raises:
        ModelNotFound, ModelError, UnsupportedModel: as `resolve_model`.
    """
    folder, _, config = _find_config(reference, cache, hash_files, trust_remote_code)
    remote_code = remote_code_hash(config, folder, trust_remote_code)
    return _model_without_weights(folder, bool(remote_code))


def _find_config(
    reference: str,
    cache: Path,
    hashed: Callable[[list[Path]], str],
    trust_remote_code: bool,
) -> tuple[Path, str | None, dict[str, Any]]:
    """The folder of a model's config.json, the revision if it is known yet, and the content."""
    check_reference(reference)
    kind, _, rest = reference.partition(":")
    revision = None
    if kind == "hub":
        code = [CODE_FILE_PATTERN, "tokenizer_config.json"] if trust_remote_code else []
        folder = _download(rest, ["config.json", *code])
    elif kind == "package":
        folder, revision = _from_gguf(package_gguf_file(reference, rest, cache), cache, hashed)
    elif reference.endswith(".gguf"):
        folder, revision = _from_gguf(Path(reference).expanduser(), cache, hashed)
    else:
        folder = Path(reference).expanduser()
    config = read_config_file(folder / "config.json")
    check_config(config, reference, trust_remote_code)
    return folder, revision, config


def pin_source(source: ModelSource) -> ModelSource:
    """The source under a reference that names the same weights on any machine, at any time.

    A hub reference gets its commit, and a path becomes absolute.
    """
    kind, _, rest = source.reference.partition(":")
    if kind == "hub":
        reference = f"hub:{rest.partition('@')[0]}@{source.revision}"
    elif kind == "package":
        reference = source.reference
    else:
        reference = str(Path(source.reference).expanduser().absolute())
    return replace(source, reference=reference)


def resolve_pinned(source: ModelSource, cache: Path) -> ModelSource:
    """The same source on this machine, for a source that `pin_source` returned on another one.

    Each process of a machine asks for it, so a hash of large files is computed once.

    Raises:
        ModelNotFound: the reference names other weights here.
        ModelError: as `resolve_model`.
    """
    local = resolve_model(
        source.reference,
        cache,
        uses_known_hash=True,
        trust_remote_code=bool(source.remote_code),
    )
    if local.revision != source.revision:
        raise ModelNotFound(
            f"model {source.reference} is {local.revision} on {platform.node()}, and "
            f"{source.revision} where the sweep was planned; all machines need the same weights"
        )
    return local


def _model_without_weights(folder: Path, trust_remote_code: bool) -> PreTrainedModel:
    """The model's modules without weights, which show whether the model is supported."""
    try:
        config = read_config(folder, trust_remote_code)
    except Exception as error:  # a strange config.json makes transformers raise any type
        raise ModelNotFound(
            f"model {folder}: config.json cannot be read ({one_line(error)})"
        ) from error
    try:
        model = skeleton(folder, torch.float32, trust_remote_code)
    except UnsupportedModel:
        raise
    except Exception as error:  # a package that is missing, or a config.json that does not fit
        raise UnsupportedModel(
            f"{type(config).__name__} is not supported: transformers cannot build a model from its "
            f"config.json ({one_line(error)})"
        ) from error
    return model


def _from_hub(name: str, commit: str) -> tuple[Path, str]:
    folder = _download(f"{name.partition('@')[0]}@{commit}", [*MODEL_FILE_PATTERNS])
    if not any(folder.glob("*.safetensors")):
        raise ModelNotFound(f"model hub:{name} has no *.safetensors; no other weights are read")
    return folder, folder.name


def _download(name: str, patterns: list[str]) -> Path:
    """The folder with files of a repository; its name is the commit."""
    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        )
    except Exception as error:  # the hub client raises many unrelated types
        raise ModelNotFound(
            f"model hub:{name} could not be fetched ({one_line(error)}); "
            "check the name, the revision and the network"
        ) from error


def _from_gguf(file: Path, cache: Path, hashed: Callable[[list[Path]], str]) -> tuple[Path, str]:
    check_gguf_file(file)
    revision = hashed([file])
    folder = cache / "models" / revision.removeprefix("sha256:")[:16]
    if not folder.exists():
        _convert_gguf(file, folder)
    return folder, revision


def _convert_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file to float32 safetensors in `folder`, which appears when complete."""
    with cache_staging_folder(folder) as staging:
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
                model = load_complete_model(file.parent, gguf_file=file.name, dtype=torch.float32)
                # save_pretrained refuses a model that is marked as quantised.
                vars(model).update(hf_quantizer=None, quantization_method=None, is_quantized=False)
                if hasattr(model.config, "quantization_config"):
                    del model.config.quantization_config
                model.save_pretrained(staging)
                tokenizer.save_pretrained(staging)
            try:
                staging.replace(folder)
            except OSError:
                if not folder.exists():  # otherwise another process has converted the same file
                    raise
        except Exception as error:  # transformers and gguf raise many types on a bad file
            raise ModelNotFound(
                f"model {file}: cannot be read as GGUF ({one_line(error)})"
            ) from error
