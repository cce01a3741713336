"""Lakes packed into one file, such as the recorded lake in this package."""

import hashlib
import tempfile
import zipfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from prunelake.errors import LakeError, one_line
from prunelake.schema.tables import ALL_TABLES

RECORDED_LAKE = Path(str(files("prunelake") / "lake" / "recorded.zip"))
"""The results of `prunelake demo` (`make record` writes them)."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_lake(lake: Path, packed: Path) -> None:
    """Write all tables of a local lake to one file. The same lake gives the same bytes."""
    with zipfile.ZipFile(packed, "w") as archive:
        for table in ALL_TABLES:
            for path in sorted((lake / table).glob("[!.]*")):
                entry = zipfile.ZipInfo(f"{table}/{path.name}", ZIP_EPOCH)
                archive.writestr(entry, path.read_bytes())


def unpack_lake(packed: Path, folder: Path) -> Path:
    """Unpack a lake to a folder below `folder`, unless it is there already; return that folder.

        lake = unpack_lake(RECORDED_LAKE, Path("cache"))

    The name of the folder is the beginning of the SHA-256 of the packed file.

    Raises:
        LakeError: `packed` cannot be read, or `folder` cannot be written.
    """
    try:
        lake = folder / hashlib.sha256(packed.read_bytes()).hexdigest()[:16]
        if not lake.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                with zipfile.ZipFile(packed) as archive:
                    archive.extractall(Path(unfinished) / "lake")
                # Another process may unpack the same lake at the same time.
                with suppress(FileExistsError):
                    (Path(unfinished) / "lake").rename(lake)
    except (OSError, zipfile.BadZipFile) as error:
        raise LakeError(f"{packed} cannot be unpacked to {folder}: {one_line(error)}") from error
    return lake
