"""Lakes of this machine, as the type checker is to know them."""

from pathlib import Path

from prunelake.lake.storage.location import Location


def local_path(place: Location) -> Path:
    """A place that is known to be a path of this machine."""
    assert isinstance(place, Path)
    return place
