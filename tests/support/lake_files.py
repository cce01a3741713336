"""Change the content of files of a lake, with right checksums."""

from pathlib import Path

import polars as pl
import pytest

from prunelake.lake.files import parquet
from prunelake.schema.tables import ALL_TABLES


def rewrite_manifest(path: Path, rows: pl.DataFrame) -> None:
    """Write other rows to a manifest, with the right checksum."""
    parquet.write(path, ALL_TABLES[path.parent.name], rows)


def set_format_version(path: Path, version: int) -> None:
    """Write a manifest as another version of PruneLake would have written it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FORMAT_VERSION", version)
        rewrite_manifest(path, pl.read_parquet(path))
