"""The data files of each table of a lake, as an open table format lists them."""

from collections.abc import Mapping

from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.read import LakeContent, read_content
from prunelake.lake.storage.location import Location
from prunelake.schema.tables import ALL_TABLES

TableFiles = Mapping[Location, ListedFile]
"""The data files of one table."""


def files_of_tables(lake: Location) -> dict[str, TableFiles]:
    """The data files of every table, without rows that readers must not see.

    A segment with rows of a retired run is merged again first: a table format lists whole files.

    Raises:
        LakeError: no lake, or a folder that cannot be written.
        WrongFormat: a run of another format version.
    """
    content = read_content(lake)
    if not _has_whole_files(content):
        compact(lake)
        content = read_content(lake)
    return {
        table.name: {path: manifest.files[table.name] for path, manifest in content.files(table)}
        for table in ALL_TABLES.values()
    }


def _has_whole_files(content: LakeContent) -> bool:
    return all(manifest.run_ids == manifest.all_run_ids for manifest in content.manifests)
