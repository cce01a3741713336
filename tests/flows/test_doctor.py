"""The flow `doctor`: it fails if a file is damaged."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prunelake.errors import CorruptFile
from prunelake.flows.doctor import doctor
from prunelake.lake.commit import write_run
from prunelake.settings import Settings
from tests.support.runs.lake_rows import frames, run_row


def test_a_damaged_file_fails_the_flow_and_a_leftover_does_not(tmp_path: Path) -> None:
    write_run(tmp_path, run_row("0"), frames())  # without an analysis, which is only a warning
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        assert doctor(Settings(lake=tmp_path)).endswith("1 runs, all their files are intact")
        file = next((tmp_path / "predictions").glob("*.parquet"))
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(CorruptFile, match="1 damaged files"):
            doctor(Settings(lake=tmp_path))
