"""The optional packages of an installation, and the extra that brings each."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from prunelake.errors import MissingExtra

EXTRAS = {
    "models": ("torch", "transformers", "accelerate", "gguf", "captum", "sklearn", "relplot"),
    "flows": ("prefect",),
    "ray": ("ray", "prefect_ray"),
    "cloud": ("obstore",),
    "tables": ("deltalake", "pyiceberg", "pyarrow"),
    "harness": ("lm_eval",),
    "llama-cpp": ("llama_cpp_py_sync",),
    "quantised": ("torchao", "compressed_tensors", "bitsandbytes"),
}
"""The packages that each extra brings, by the names under which they are imported."""


def require_extra(extra: str) -> None:
    """Raise if a package of an extra is not installed, without importing it.

        require_extra("models")

    Raises:
        MissingExtra: a package of the extra is not installed.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise _missing_extra(package, extra)


@contextmanager
def naming_extras() -> Iterator[None]:
    """Name the extra to install if an optional package is missing.

        with naming_extras():
            import torch

    Raises:
        MissingExtra: a package of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if package in packages:
                raise _missing_extra(package, extra) from error
        raise


def _missing_extra(package: str, extra: str) -> MissingExtra:
    return MissingExtra(
        f"this needs {package}, which is not installed: pip install 'prunelake[{extra}]'"
    )
