"""Iceberg: a catalogue in SQLite and the metadata of each table, in the folder `.iceberg`."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from prunelake.errors import LakeError, one_line
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.storage.location import Location
from prunelake.schema.table import Table

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog

ICEBERG_FOLDER = ".iceberg"
CATALOG_FILE = "catalog.sqlite"
NAMESPACE = "lake"


def is_registered(lake: Location) -> bool:
    """Whether the lake has an Iceberg catalogue."""
    return (lake / ICEBERG_FOLDER / CATALOG_FILE).is_file()


def register(lake: Path, table: Table, files: Mapping[Location, ListedFile]) -> None:
    """Let the Iceberg table list exactly these files; additions and removals are one snapshot.

    Raises:
        LakeError: the catalogue cannot be written.
    """
    from pyiceberg.exceptions import NoSuchTableError
    from pyiceberg.io.pyarrow import parquet_files_to_data_files
    from pyiceberg.table import TableProperties
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with closing(_catalog(lake)) as catalog:
            catalog.create_namespace_if_not_exists(NAMESPACE)
            name = (NAMESPACE, table.name)
            try:
                iceberg = catalog.load_table(name)
            except NoSuchTableError:
                schema = table.frame([]).to_arrow().schema
                iceberg = catalog.create_table(name, schema)
            listed = {task.file.file_path: task.file for task in iceberg.scan().plan_files()}
            wanted = {_url(path) for path in files}
            added, removed = sorted(wanted - set(listed)), sorted(set(listed) - wanted)
            if not added and not removed:
                return
            with iceberg.transaction() as transaction:
                if iceberg.name_mapping() is None:
                    mapping = iceberg.schema().name_mapping.model_dump_json()
                    transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})
                with transaction.update_snapshot().overwrite() as snapshot:
                    for url in removed:
                        snapshot.delete_data_file(listed[url])
                    for file in parquet_files_to_data_files(
                        iceberg.io, transaction.table_metadata, iter(added)
                    ):
                        snapshot.append_data_file(file)
    except (OSError, ValueError, SQLAlchemyError) as error:
        raise LakeError(
            f"{lake / ICEBERG_FOLDER} cannot be written ({one_line(error)}); the lake itself is "
            "unchanged"
        ) from error


def _catalog(lake: Path) -> "SqlCatalog":
    from pyiceberg.catalog.sql import SqlCatalog

    folder = (lake / ICEBERG_FOLDER).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return SqlCatalog(NAMESPACE, uri=f"sqlite:///{folder / CATALOG_FILE}", warehouse=_url(folder))


def _url(path: Location) -> str:
    # pyiceberg takes the rest of a URL as a path, without decoding it.
    return f"file://{path.resolve()}"
