"""Which models an entry of a watchlist stands for now, and their revisions; no weights are read."""

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
    hash_files,
    is_saved_model,
    model_files,
    package_gguf_file,
    partial_folder,
)
from prunelake.spec import content_hash
from prunelake.watch.watchlist import HubSearch, WatchlistEntry

HUB_TIMEOUT_S = 10.0
WEIGHT_INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelRevision:
    """A model as it is now; `weight_bytes` is the size of its weights as they are stored."""

    model: str
    revision: str
    weight_bytes: int


@dataclass(frozen=True)
class SkippedModel:
    """A model that cannot be evaluated as it is: not there, not whole, or not readable."""

    model: str
    reason: str


def find_revisions(entry: WatchlistEntry, cache: Path) -> Iterator[ModelRevision | SkippedModel]:
    """The models of an entry, a hub's by its commit, others by the hash that a sweep uses.

    Models beyond the entry's largest size are skipped.

    Raises:
        ModelNotFound: no such model, package or folder.
        HubUnreachable: the hub, or the way to it, does not answer.
        ModelError: `cache` cannot be written.
    """
    largest = entry.budget.max_model_gb
    for found in _entry_revisions(entry, cache):
        if isinstance(found, ModelRevision) and largest and found.weight_bytes > largest * 1e9:
            size = f"{found.weight_bytes / 1e9:.3g} GB"
            yield SkippedModel(
                found.model, f"its weights are {size}, the entry takes {largest:g} GB"
            )
        else:
            yield found


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
        return ModelRevision(model, _cached_hash([file], cache), file.stat().st_size)
    if not is_saved_model(file):
        raise ModelNotFound(f"model {model}: no model there; a model is given as {REFERENCE_FORMS}")
    return _saved_model_revision(file, cache)


def _saved_model_revision(folder: Path, cache: Path) -> ModelRevision:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return ModelRevision(str(folder), _cached_hash(model_files(folder), cache), size)


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
                reason = _why_incomplete(folder, settle_s)
                yield (
                    SkippedModel(str(folder), reason)
                    if reason
                    else _saved_model_revision(folder, cache)
                )
            except OSError as error:  # gone meanwhile, or not ours to read
                yield SkippedModel(str(folder), one_line(error))


def _why_incomplete(folder: Path, settle_s: float) -> str | None:
    """Why a saved model is not yet, or never will be, whole."""
    age = time.time() - max(path.stat().st_mtime for path in model_files(folder))
    if age < settle_s:
        return f"it changed {age:.0f} s ago; looked at again once it is {settle_s:.0f} s old"
    with suppress(OSError, ValueError, KeyError, AttributeError):
        named = set(
            json.loads((folder / WEIGHT_INDEX_FILE).read_text("utf-8"))["weight_map"].values()
        )
        if missing := sorted(file for file in named if not (folder / file).is_file()):
            return f"{WEIGHT_INDEX_FILE} names {missing[0]}, which is not there"
    return None


def _cached_hash(files: list[Path], cache: Path) -> str:
    """The hash of these files, computed again only after one has changed its size or time."""
    stats = [path.stat() for path in files]
    seen = [
        [str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=True)
    ]
    remembered = cache / "revisions" / f"{content_hash(str(files[0].absolute()))[:16]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(remembered.read_text("utf-8"))
        if known["files"] == seen:
            return str(known["revision"])
    revision = hash_files(files)
    # A file that was just written may change once more within the clock's grain.
    if time.time() - max(stat.st_mtime for stat in stats) > 2:
        with partial_folder(remembered.parent) as partial:
            whole = partial / remembered.name
            whole.write_text(json.dumps({"revision": revision, "files": seen}), encoding="utf-8")
            whole.replace(remembered)
    return revision


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
            f"hub:{name}: no such model or revision, or one that needs a token of yours "
            f"({type(error).__name__})"
        ) from error
    except Exception as error:  # the client's own, of its transport, of JSON: all mean no answer
        raise _hub_unreachable(error) from error
    sizes = [f.size or 0 for f in info.siblings or () if f.rfilename.endswith(".safetensors")]
    if not sizes or info.sha is None:
        raise ModelNotFound(f"hub:{name} has no *.safetensors; other weights are not read")
    return ModelRevision(f"hub:{name}", info.sha, sum(sizes))


def _search_hub(query: HubSearch) -> list[str]:
    try:
        found = HfApi().list_models(
            author=query.author,
            filter=list(query.tags) or None,
            sort="downloads",
            limit=query.limit,
            expand=["downloads"],
        )
        return [info.id for info in found if (info.downloads or 0) >= query.min_downloads]
    except Exception as error:  # as above
        raise _hub_unreachable(error) from error


def _hub_unreachable(error: Exception) -> HubUnreachable:
    return HubUnreachable(f"the hub does not answer ({one_line(error)}); tried again next round")
