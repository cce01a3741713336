"""Settings of an empty lake, and a launcher that fills it."""

from pathlib import Path

import pytest

from prunelake.settings import Settings
from tests.support.lakes.local_paths import local_path
from tests.support.sweeps.fake_launcher import FakeLauncher, write_evaluated_run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache")


@pytest.fixture
def writes(settings: Settings) -> FakeLauncher:
    """A launcher whose sweeps write their run into the lake, in this process."""
    return FakeLauncher(
        lambda evaluation: write_evaluated_run(local_path(settings.lake), evaluation)
    )
