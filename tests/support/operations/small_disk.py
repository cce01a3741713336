"""A small disk of a test, which can be filled."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_BYTES = 200_000_000


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk at a folder; False if this user may not mount."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    has_mounted = shutil.which("mount") is not None and (
        subprocess.run(["mount", *options], capture_output=True).returncode == 0
    )
    try:
        yield has_mounted
    finally:
        if has_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
