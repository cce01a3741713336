"""The folder of everything that can be computed again."""

import os
from pathlib import Path

DEFAULT_CACHE = Path("~/.cache/prunelake")


def cache_folder() -> Path:
    """The cache for code without `Settings`: PRUNELAKE_CACHE, or else the default.

    Raises:
        RuntimeError: this user has no home folder.
    """
    return Path(os.environ.get("PRUNELAKE_CACHE") or DEFAULT_CACHE).expanduser()
