"""One Parquet file of a table: written whole or not at all, read as exactly its table."""

import hashlib
import io
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from prunelake.errors import CorruptFile, WrongFormat, one_line
from prunelake.lake import leases
from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location, LocationT, fsync, prefetch_all
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES, PROFILES
from prunelake.schema.run_tables import RUNS
from prunelake.schema.table import FORMAT_VERSION, Table

FORMAT_KEY = "prunelake.format_version"
TABLE_KEY = "prunelake.table"
FILES_KEY = "prunelake.files"  # in a segment's head: a JSON list like the column `files`
CHECKSUM_KEY = (
    "prunelake.sha256"  # in a head file: what its bytes hash to, with `EMPTY_CHECKSUM` as its seal
)
EMPTY_CHECKSUM = "0" * 64
METADATA_KEYS = {FORMAT_KEY, TABLE_KEY, FILES_KEY, CHECKSUM_KEY, "ARROW:schema"}

MANIFEST_TABLES = (RUNS, ANALYSES, PROFILES)
"""Their files list the hashes of others; no file lists theirs, so they carry it themselves."""

ROW_GROUP_ROWS = 65_536  # so that one run's rows are found without reading those of many

DOCTOR_HINT = "`prunelake doctor` names every bad file"

READ_ERRORS = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def write(
    path: Location, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None
) -> str:
    """Write it whole, through a temporary name here; the SHA-256 (hex) of what was written."""
    if isinstance(path, ObjectPath):
        content = _encode(table, frame, metadata or {})
        path.put(content)
        return hashlib.sha256(content).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        _write(temporary, table, frame, metadata or {})
        digest = sha256(temporary)
        if table in MANIFEST_TABLES:
            temporary.write_bytes(_replace_checksum(temporary.read_bytes(), EMPTY_CHECKSUM, digest))
            digest = sha256(temporary)
        fsync(temporary)
        os.replace(temporary, path)  # noqa: PTH105  # the one call that failure tests intercept
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)
    return digest


def write_data(path: Location, table: Table, frame: pl.DataFrame) -> str:
    """Write a file that a head lists, to `data_path` of this path; its SHA-256 (hex)."""
    if not isinstance(path, ObjectPath):
        return write(path, table, frame)
    content = _encode(table, frame, {})
    found = hashlib.sha256(content).hexdigest()
    path = data_path(path, found)
    path.put(content)
    return found


def data_path(path: LocationT, digest: str) -> LocationT:
    """Where the file of this name and SHA-256 is, which a head lists.

    In an object store names of data tell their content: nobody, however late, puts another content
    into what a head lists. Here the lock sees to that.
    """
    if isinstance(path, ObjectPath):
        return path.with_name(f"{path.stem}.{digest[:16]}.parquet")
    return path


def owner_id(path: Location) -> str:
    """The run or segment that a file is of: neither has a dot in its name."""
    return path.name.split(".")[0]


def create_manifest(
    path: Location, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None
) -> bool:
    """Write a head; False, with nothing changed, where an object store has it already.

    Raises:
        LakeError: a lease was lost: what the head lists may be gone by now.
    """
    if isinstance(path, ObjectPath):
        leases.require_leases(path)
        return path.create(_encode(table, frame, metadata or {})) is not None
    write(path, table, frame, metadata)
    return True


def replace_manifest(path: Location, table: Table, frame: pl.DataFrame, etag: str | None) -> bool:
    """Write a head in place of the object with this tag, None being none; False if it is no more.

    Of this machine's files, which have no tags, it replaces any.

    Raises:
        LakeError: as `create_manifest`.
    """
    if isinstance(path, ObjectPath) and etag is not None:
        leases.require_leases(path)
        return path.replace(_encode(table, frame, {}), etag) is not None
    return create_manifest(path, table, frame)


def digest(table: Table, frame: pl.DataFrame) -> str:
    """The SHA-256 (hex) of the file that `write` would make of the rows of a table without seal."""
    return hashlib.sha256(_encode(table, frame, {})).hexdigest()


def read(path: Location, table: Table) -> pl.DataFrame:
    """The rows of one file.

    Raises:
        CorruptFile: a file that does not open or has another schema.
    """
    frame = read_unchecked(path)
    problem = schema_problem(frame, table)
    if problem:
        raise CorruptFile(f"{path} has {problem}; {DOCTOR_HINT}")
    return frame


def read_unchecked(path: Location) -> pl.DataFrame:
    """The rows of one file of any format version.

    Raises:
        CorruptFile: a file that does not open.
    """
    try:
        return pl.read_parquet(polars_source(path), glob=False)
    except READ_ERRORS as error:
        raise _corrupt(path, error) from error


def polars_source(path: Location) -> Path | io.BytesIO:
    """What polars reads of a file."""
    return path if isinstance(path, Path) else io.BytesIO(path.read_bytes())


def read_columns(
    paths: Sequence[Location], table: Table, columns: Sequence[str]
) -> list[pl.DataFrame]:
    """Some columns of many files of one table at once, a frame for each path.

    Raises:
        CorruptFile: as `read`.
    """
    if not paths:
        return []
    files = [path for path in paths if isinstance(path, Path)]
    if len(files) < len(paths):
        return [read(path, table).select(columns) for path in prefetch_all(paths)]
    try:
        rows = (
            pl.scan_parquet(files, glob=False, include_file_paths="path")
            .select("path", *columns)
            .collect()
        )
    except READ_ERRORS:
        return [read(path, table).select(columns) for path in paths]  # this names the file
    by_path = rows.partition_by("path", as_dict=True, include_key=False)
    return [by_path.get((str(path),), rows.clear().drop("path")) for path in paths]


def file_metadata(path: Location) -> dict[str, str]:
    """What a file of any format version says of itself beside its rows.

    Raises:
        CorruptFile: a file that does not open as Parquet.
    """
    try:
        return pl.read_parquet_metadata(polars_source(path))
    except READ_ERRORS as error:
        raise _corrupt(path, error) from error


def checked_metadata(path: Location) -> dict[str, str]:
    """The same of a file of this format version.

    Raises:
        CorruptFile: a file that does not open as Parquet.
        WrongFormat: a file of another format version, or of none.
    """
    found = file_metadata(path)
    if found.get(FORMAT_KEY) != str(FORMAT_VERSION):
        raise WrongFormat(
            f"{path} is of format {found.get(FORMAT_KEY, 'unknown')}, this version reads format "
            f"{FORMAT_VERSION}; {format_hint(path)}"
        )
    return found


def format_version_of(path: Location) -> int | None:
    """The format version that a file says it is of; None where it names no number.

    Raises:
        CorruptFile: a file that does not open as Parquet.
    """
    try:
        return int(file_metadata(path).get(FORMAT_KEY, ""))
    except ValueError:
        return None


def format_hint(path: Location) -> str:
    """What would do about a file of another format version."""
    found = format_version_of(path)
    if found is not None and found < FORMAT_VERSION:
        return "run `prunelake doctor --migrate`"
    return "use the version that wrote it, or another lake folder and sweep again"


def checksum_problem(path: Location) -> str | None:
    """How a head file shows that a byte of it is not what was written.

    None also for one that an earlier version wrote without a seal.

    Raises:
        CorruptFile: a file that does not open as Parquet.
    """
    told = file_metadata(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _corrupt(path, error) from error
    seal = told.get(CHECKSUM_KEY)
    if seal is None:
        # Where the seal was lost, its name or another one is damaged.
        is_lost = CHECKSUM_KEY.encode() in content or not METADATA_KEYS.issuperset(told)
        return "its seal is damaged" if is_lost else None
    if hashlib.sha256(_replace_checksum(content, seal, EMPTY_CHECKSUM)).hexdigest() == seal:
        return None
    return "its bytes are not those that were written (SHA-256 differs)"


def schema_problem(frame: pl.DataFrame, table: Table) -> str | None:
    """How the columns of a frame differ from those of its table."""
    found, expected = list(frame.schema.items()), list(table.schema.items())
    if found == expected:
        return None
    differing = [f"{name} {dtype}" for name, dtype in found if (name, dtype) not in expected]
    missing = [f"{name} {dtype}" for name, dtype in expected if (name, dtype) not in found]
    if not differing and not missing:
        return f"another schema: the columns are not in the order {', '.join(table.schema)}"
    return f"another schema: has {differing or 'nothing more'}, lacks {missing or 'nothing'}"


def content_problems(frame: pl.DataFrame, table: Table, owners: Collection[str]) -> Iterator[str]:
    """What is wrong with rows that have the table's schema and should be of these runs.

    Of a table of profiles `owners` are profiles.
    """
    foreign = frame.filter(~pl.col(table.owner_column).is_in(list(owners)).fill_null(value=False))
    if not foreign.is_empty():
        expected = next(iter(owners)) if len(owners) == 1 else f"the {len(owners)} it is of"
        what = table.owner_column.removesuffix("_id")
        yield f"rows of {what} {foreign[table.owner_column][0]} instead of {expected}"
    keys = frame.select(table.key)
    if any(column.null_count() for column in keys.get_columns()):
        yield f"null in the key ({', '.join(table.key)})"
    if keys.is_duplicated().any():
        yield f"the key ({', '.join(table.key)}) is not unique"


def sha256(path: Location) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    if isinstance(path, ObjectPath):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def repair_hint(path: Location) -> str:
    """What would put a damaged file of a lake right: what it belongs to can be made again."""
    lake, name = path.parent.parent, f"{owner_id(path)}.parquet"
    if path.parent.name in PROFILE_TABLES:
        return f"delete {lake / PROFILES.name / name} and run `prunelake profile` again"
    if path.parent.name in ANALYSIS_TABLES:
        return f"delete {lake / ANALYSES.name / name} and run `prunelake analyse`"
    return f"delete {lake / RUNS.name / name} or restore the file, and sweep again"


def _write(
    target: Path | io.BytesIO, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str]
) -> None:
    keys = {FORMAT_KEY: str(FORMAT_VERSION), TABLE_KEY: table.name, **metadata}
    if table in MANIFEST_TABLES:
        keys[CHECKSUM_KEY] = EMPTY_CHECKSUM
    frame.write_parquet(target, compression="zstd", row_group_size=ROW_GROUP_ROWS, metadata=keys)


def _encode(table: Table, frame: pl.DataFrame, metadata: Mapping[str, str]) -> bytes:
    """All bytes of a file, sealed if it is a head."""
    buffer = io.BytesIO()
    _write(buffer, table, frame, metadata)
    content = buffer.getvalue()
    if table in MANIFEST_TABLES:
        content = _replace_checksum(content, EMPTY_CHECKSUM, hashlib.sha256(content).hexdigest())
    return content


def _replace_checksum(content: bytes, old: str, new: str) -> bytes:
    # The last one: metadata comes after the rows, which may hold the same text.
    before, _, after = content.rpartition(old.encode())
    return before + new.encode() + after


def _corrupt(path: Location, error: BaseException) -> CorruptFile:
    return CorruptFile(
        f"{path} does not open as Parquet ({one_line(error)}); {DOCTOR_HINT}: {repair_hint(path)}"
    )
