"""The models of a watchlist entry and their current revisions. No weights are loaded."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from prunelake.errors import HubUnreachable, ModelNotFound, one_line
from prunelake.models.references import (
    REFERENCE_FORMS,
    cached_hash,
    is_saved_model,
    model_files,
    package_gguf_file,
)
from prunelake.watch.watchlist import HubSearch, WatchlistEntry

HUB_TIMEOUT_S = 10.0
WEIGHT_INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelRevision:
    """A model at its current revision; `weight_bytes` is the size of its weight files."""

    model: str
    revision: str
    weight_bytes: int


@dataclass(frozen=True)
class SkippedModel:
    """A model that cannot be evaluated now: missing, incomplete, unreadable or too large."""

    model: str
    reason: str


def find_revisions(entry: WatchlistEntry, cache: Path) -> Iterator[ModelRevision | SkippedModel]:
    """Find the current revisions of an entry's models.

    The revision of a hub model is its commit. The revision of another model is the hash that a
    sweep computes. `cache` keeps these hashes. Models above the entry's `max_model_gb` are skipped.

    Raises:
        ModelNotFound: no such model, package or folder.
        HubUnreachable: the hub does not answer.
        ModelError: `cache` cannot be written.
    """
    max_gb = entry.budget.max_model_gb
    for model in _entry_revisions(entry, cache):
        if isinstance(model, ModelRevision) and max_gb and model.weight_bytes > max_gb * 1e9:
            size = f"{model.weight_bytes / 1e9:.3g} GB"
            yield SkippedModel(
                model.model, f"its weights are {size}, the entry allows {max_gb:g} GB"
            )
        else:
            yield model


def find_baseline_revision(entry: WatchlistEntry, cache: Path) -> str:
    """The current revision of an entry's baseline; empty if it has none.

    Raises:
        ModelNotFound, HubUnreachable, ModelError: as `find_revisions`.
    """
    if entry.baseline is None:
        return ""
    return _reference_revision(entry.baseline.model, cache).revision


def _entry_revisions(entry: WatchlistEntry, cache: Path) -> Iterator[ModelRevision | SkippedModel]:
    if entry.query is not None:
        for repository in _search_hub(entry.query):
            try:
                yield _hub_revision(repository)
            except ModelNotFound as error:
                yield SkippedModel(f"hub:{repository}", str(error))
    elif entry.folder is not None:
        yield from _folder_revisions(entry.folder, entry.settle_s, cache)
    elif entry.hub is not None:
        yield _hub_revision(entry.hub)
    else:
        assert entry.model is not None  # an entry has one source
        yield _reference_revision(entry.model, cache)


def _reference_revision(model: str, cache: Path) -> ModelRevision:
    kind, _, rest = model.partition(":")
    if kind == "hub":
        return _hub_revision(rest)
    file = package_gguf_file(model, rest, cache) if kind == "package" else Path(model)
    if file.suffix == ".gguf" and file.is_file():
        return ModelRevision(model, cached_hash([file], cache), file.stat().st_size)
    if not is_saved_model(file):
        raise ModelNotFound(f"model {model}: no model there; a model is given as {REFERENCE_FORMS}")
    return _saved_model_revision(file, cache)


def _saved_model_revision(folder: Path, cache: Path) -> ModelRevision:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return ModelRevision(str(folder), cached_hash(model_files(folder), cache), size)


def _folder_revisions(
    root: Path, settle_s: float, cache: Path
) -> Iterator[ModelRevision | SkippedModel]:
    if not root.is_dir():
        raise ModelNotFound(f"folder {root}: no such folder to scan for models")
    for name, folders, _ in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        folder = Path(name)
        if is_saved_model(folder):
            try:
                reason = _incomplete_reason(folder, settle_s)
                yield (
                    SkippedModel(str(folder), reason)
                    if reason
                    else _saved_model_revision(folder, cache)
                )
            except OSError as error:  # removed meanwhile, or not readable for this user
                yield SkippedModel(str(folder), one_line(error))


def _incomplete_reason(folder: Path, settle_s: float) -> str | None:
    """Why a saved model is incomplete or may still change; None if it is complete."""
    age = time.time() - max(path.stat().st_mtime for path in model_files(folder))
    if age < settle_s:
        return f"it changed {age:.0f} s ago; a round evaluates it once it is {settle_s:.0f} s old"
    with suppress(OSError, ValueError, KeyError, AttributeError):
        weight_index = json.loads((folder / WEIGHT_INDEX_FILE).read_text("utf-8"))
        weight_files = set(weight_index["weight_map"].values())
        if missing := sorted(name for name in weight_files if not (folder / name).is_file()):
            return f"{WEIGHT_INDEX_FILE} names {missing[0]}, which does not exist"
    return None


def _hub_revision(name: str) -> ModelRevision:
    repository, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(
            repository, revision=revision or None, files_metadata=True, timeout=HUB_TIMEOUT_S
        )
    except (
        DisabledRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    ) as error:
        raise ModelNotFound(
            f"hub:{name}: no such model or revision, or it needs a token: set HF_TOKEN "
            f"({type(error).__name__})"
        ) from error
    except Exception as error:  # errors of the client, of its transport and of JSON: no answer
        raise _hub_unreachable(error) from error
    sizes = [
        file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")
    ]
    if not sizes or info.sha is None:
        raise ModelNotFound(f"hub:{name} has no *.safetensors file, the only supported format")
    return ModelRevision(f"hub:{name}", info.sha, sum(sizes))


def _search_hub(query: HubSearch) -> list[str]:
    try:
        models = HfApi().list_models(
            author=query.author,
            filter=list(query.tags) or None,
            sort="downloads",
            limit=query.limit,
            expand=["downloads"],
        )
        return [info.id for info in models if (info.downloads or 0) >= query.min_downloads]
    except Exception as error:  # as in _hub_revision
        raise _hub_unreachable(error) from error


def _hub_unreachable(error: Exception) -> HubUnreachable:
    return HubUnreachable(f"the hub does not answer ({one_line(error)}); the next round retries")
