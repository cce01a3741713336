"""Errors of the disk as errors of the lake, with the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from prunelake.errors import LakeError, one_line


@contextmanager
def write_errors(failure: str, retry: str) -> Iterator[None]:
    """Turn errors of the disk in the block into a LakeError with the remedy.

    Raises:
        LakeError: `<failure>: <error>; make room or fix the permissions and <retry>`.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{failure}: {one_line(error)}; make room or fix the permissions and {retry}"
        ) from error
