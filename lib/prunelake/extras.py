"""The optional packages of an installation, and the extra that brings each."""

from collections.abc import Iterator
from contextlib import contextmanager

from prunelake.errors import MissingExtra

EXTRAS = {
    "models": ("torch", "transformers", "accelerate", "gguf", "captum", "sklearn", "relplot"),
    "flows": ("prefect",),
    "ray": ("ray", "prefect_ray"),
    "s3": ("boto3", "botocore", "fsspec"),
    "harness": ("lm_eval",),
}
"""The packages that each extra brings, by the names under which they are imported."""


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
                raise MissingExtra(
                    f"this needs {package}, which is not installed: pip install "
                    f"'prunelake[{extra}]'"
                ) from error
        raise
