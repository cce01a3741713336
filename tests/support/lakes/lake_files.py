"""Find the files of a lake, and change their content, with or without the right hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.identity import content_hash
from prunelake.lake.files import hashed_json
from prunelake.lake.files.manifests import (
    Manifest,
    StoredManifest,
    decode,
    read_group,
    readable_run_ids,
)
from prunelake.lake.files.paths import data_file
from prunelake.lake.read import read_content
from prunelake.lake.storage.location import Location
from prunelake.schema.table import TableGroup
from prunelake.schema.tables import TABLE_GROUPS


def stored_manifest(lake: Location, owner_id: str, table: str = "runs") -> StoredManifest:
    """The manifest from which readers take the rows of a table of a run (or profile)."""
    selected = read_group(lake, group_of(table)).select([owner_id])
    (stored,) = (manifest for manifest in selected if manifest.run_ids)
    return stored


def entry_of(path: Path) -> str:
    """The entry to which a file of a table belongs: its name up to the first dot."""
    return path.name.split(".")[0]


def manifest_of(lake: Path, owner_id: str, table: str = "runs") -> Path:
    """The path of that manifest."""
    path = stored_manifest(lake, owner_id, table).path
    assert isinstance(path, Path)
    return path


def data_file_of(lake: Path, table: str, owner_id: str) -> Path:
    """The file from which readers take the rows of a table of a run (or profile)."""
    path = stored_manifest(lake, owner_id, table).file(table)
    assert isinstance(path, Path)
    return path


def rewrite_manifest(path: Path, **changes: Any) -> None:
    """Change the content of a manifest; its hash is right again."""
    content = Manifest.model_validate(decode(path).model_dump() | changes)
    path.write_bytes(hashed_json.encode(content))


def rewrite_data_file(lake: Path, table: str, owner_id: str, rows: pl.DataFrame) -> Path:
    """List a file with other rows in place of a data file, under its hash; return its path."""
    stored = stored_manifest(lake, owner_id, table)
    old = data_file_of(lake, table, owner_id)
    temporary = old.with_name("rows.tmp")
    rows.write_parquet(temporary)
    content = temporary.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    path = data_file(lake, table, stored.name, digest)
    assert isinstance(path, Path)
    old.unlink()
    temporary.rename(path)
    files = {name: listed.model_dump() for name, listed in stored.files.items()}
    files[table] |= {"sha256": digest, "size": len(content)}
    rewrite_manifest(manifest_of(lake, owner_id, table), files=files)
    return path


def set_format_version(path: Path, version: int) -> None:
    """Write a manifest as another version of PruneLake would have written it."""
    content = json.loads(path.read_bytes())
    del content["sha256"]
    content["format_version"] = version
    path.write_text(json.dumps({"sha256": content_hash(content), **content}))


def flip_byte(path: Path, position: int = 10) -> bytes:
    """Flip a bit of a file in place; return its new content."""
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)
    return bytes(content)


def names_in(lake: Path, *tables: str) -> list[str]:
    """The files of some tables, as `<table>/<name>`, sorted."""
    return sorted(f"{table}/{p.name}" for table in tables for p in (lake / table).glob("*"))


def forget_analysis(lake: Path, run_id: str) -> None:
    """Take away the manifest of an analysis, as if its writer had been killed."""
    manifest_of(lake, run_id, "analyses").unlink()


def analysed_run_ids(lake: Location) -> set[str]:
    """The runs whose analysis readers see."""
    return set(readable_run_ids(read_content(lake).analyses))


def group_of(table: str) -> TableGroup:
    """The group of a table of the lake."""
    return next(group for group in TABLE_GROUPS if table in group)
