"""The names of the files and folders of a lake; `prunelake.lake` describes the layout."""

import re
from typing import NamedTuple

from prunelake.lake.storage.location import Location

SEGMENT_PREFIX = "segment-"
"""The names of segments begin with this; ids of runs and profiles must not."""

SHARDS_FOLDER = ".shards"
ATTEMPTS_FOLDER = ".watch"
QUARANTINE_FOLDER = ".quarantine"
SNAPSHOT_FILE = "prunelake.duckdb"

RETIRED_SUFFIX = ".retired"
LOCK_SUFFIX = ".lock"
"""The lock of an unfinished run lies beside the folder with its shards."""

MANIFEST_NAME = re.compile(r"([^.]+)\.([1-9][0-9]*)\.(json|retired)")
"""The name of a manifest, or of the mark that retires it."""

DATA_FILE_NAME = re.compile(r"([^.]+)\.([1-9][0-9]*)\.([0-9a-f]{16})\.parquet")


class ManifestName(NamedTuple):
    """The parts of the name of a manifest: its entry and its generation, from 1.

    An entry is a run, the analysis of a run, a profile, or a segment. It has a second generation
    after the first was retired.
    """

    entry: str
    generation: int

    def manifest(self, folder: Location) -> Location:
        """The manifest with this name in the folder of its owner table."""
        return folder / f"{self.entry}.{self.generation}.json"

    def retired_mark(self, folder: Location) -> Location:
        """The file that retires this generation: readers ignore its manifest."""
        return folder / f"{self.entry}.{self.generation}{RETIRED_SUFFIX}"


def data_file(lake: Location, table: str, name: ManifestName, digest: str) -> Location:
    """The data file with this SHA-256 (hex); its name has the first 16 digits.

    Two contents, or two generations, never have one name. So no writer can change a file that
    another manifest lists.
    """
    return lake / table / f"{name.entry}.{name.generation}.{digest[:16]}.parquet"


def parse_data_file(path: Location) -> tuple[ManifestName, str] | None:
    """The manifest name and the first digits of the hash in the name of a data file."""
    match = DATA_FILE_NAME.fullmatch(path.name)
    return None if match is None else (ManifestName(match[1], int(match[2])), match[3])


def parse_manifest(path: Location) -> ManifestName | None:
    """The parts of the name of a manifest, or of the mark that retires it."""
    match = MANIFEST_NAME.fullmatch(path.name)
    return None if match is None else ManifestName(match[1], int(match[2]))


def is_segment(path: Location) -> bool:
    """Whether a file belongs to a segment of many runs."""
    return path.name.startswith(SEGMENT_PREFIX)
