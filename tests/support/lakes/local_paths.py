"""Lakes on this machine, with the type that the type checker needs."""

from pathlib import Path

from prunelake.lake.storage.location import Location


def local_path(place: Location) -> Path:
    """A location that must be a path on this machine."""
    assert isinstance(place, Path)
    return place
