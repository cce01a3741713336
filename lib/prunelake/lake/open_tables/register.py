"""Register the tables of a lake in an open table format, and keep them current."""

from typing import Literal

from prunelake.errors import LakeError
from prunelake.extras import naming_extras
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.open_tables import delta, iceberg
from prunelake.lake.read import read_content
from prunelake.lake.storage.location import Location, local_path
from prunelake.lake.storage.locks import locked
from prunelake.schema.run_tables import RUNS
from prunelake.schema.tables import ALL_TABLES

TableFormat = Literal["delta", "iceberg"]

FORMATS_LOCK = ".formats.lock"


def register_tables(lake: Location, table_format: TableFormat) -> None:
    """Register every table of the lake, over the same data files. Later runs are added to it.

        register_tables(Path("lake"), "delta")

    Raises:
        LakeError: no lake, a folder that cannot be written, or an object store for Iceberg: its
            catalogue is a SQLite file.
        MissingExtra: a package of the extra `tables` is not installed.
        WrongFormat: a run of another format version.
    """
    with naming_extras():
        files = _files_of_tables(lake)
        with locked(lake, FORMATS_LOCK):
            for table in ALL_TABLES.values():
                if table_format == "delta":
                    delta.register(lake, table, files[table.name])
                elif folder := local_path(lake):
                    iceberg.register(folder, table, files[table.name])
                else:
                    raise LakeError(
                        f"{lake}: the catalogue of Iceberg is a SQLite file, which an object store "
                        "cannot hold; take --format delta, or a lake in a folder"
                    )


def refresh_tables(lake: Location) -> None:
    """Bring the registered tables up to date; nothing happens if none are registered.

    Raises:
        LakeError, MissingExtra, WrongFormat: as `register_tables`.
    """
    if delta.is_registered(lake, RUNS):
        register_tables(lake, "delta")
    if iceberg.is_registered(lake):
        register_tables(lake, "iceberg")


def _files_of_tables(lake: Location) -> dict[str, dict[Location, ListedFile]]:
    """The data files of every table, without rows that readers must not see.

    A segment with rows of a retired run is merged again first: a table format lists whole files.
    """
    content = read_content(lake)
    if any(manifest.run_ids != manifest.all_run_ids for manifest in content.manifests):
        compact(lake)
        content = read_content(lake)
    return {
        table.name: {path: manifest.files[table.name] for path, manifest in content.files(table)}
        for table in ALL_TABLES.values()
    }
