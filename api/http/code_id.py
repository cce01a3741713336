"""The identity of the code that answers: an answer changes with its snapshot and with this code."""

import hashlib
from importlib.metadata import version
from pathlib import Path

API_FOLDER = Path(__file__).parents[1]

DRAWING_PACKAGE = "vl-convert-python"


def code_id(folder: Path = API_FOLDER) -> str:
    """A hash of the Python files of a folder and of the versions of PruneLake and the drawer."""
    found = hashlib.sha256(f"{version('prunelake')} {version(DRAWING_PACKAGE)}".encode())
    for path in sorted(folder.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]
