"""The names of the files and folders of a lake; `prunelake.lake` describes the layout."""

from prunelake.lake.storage.location import Location, LocationT
from prunelake.lake.storage.objects import ObjectPath

SEGMENT_PREFIX = "segment-"
"""The names of segments begin with this; ids of runs and profiles must not."""

SHARDS_FOLDER = ".shards"
ATTEMPTS_FOLDER = ".watch"
QUARANTINE_FOLDER = ".quarantine"
SNAPSHOT_FILE = "prunelake.duckdb"


def table_file(lake: Location, table: str, owner: str) -> Location:
    """The file of a table with the rows of a run, segment or profile.

    In a store, only manifests have this path: see `data_file`.
    """
    return lake / table / f"{owner}.parquet"


def data_file(path: LocationT, digest: str) -> LocationT:
    """The file with this path and SHA-256 (hex) that a manifest lists.

    In a store the name of a data file contains its hash, so that no late writer can replace a file
    that a manifest lists. In a folder a lock prevents that.
    """
    if isinstance(path, ObjectPath):
        return path.with_name(f"{path.stem}.{digest[:16]}.parquet")
    return path


def owner_id(path: Location) -> str:
    """The id of the run, segment or profile that a file belongs to; ids have no dots."""
    return path.name.split(".")[0]


def is_segment(path: Location) -> bool:
    """Whether a file belongs to a segment of many runs."""
    return path.name.startswith(SEGMENT_PREFIX)
