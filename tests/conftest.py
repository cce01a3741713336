"""What all tests share."""

import os
from pathlib import Path

import pytest

# No test reaches the hub; one that needs a hub starts a process with its own HF_ENDPOINT.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of evaluation data and golden numbers that may lie beside the repository."""
    beside = Path(__file__).parents[1].parent / "shared"
    folder = Path(os.environ.get("PRUNELAKE_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set PRUNELAKE_SHARED to one with data/")
    return folder
