"""A small published lake that tests of SQL share."""

from pathlib import Path

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from tests.support.runs.lake_rows import small_run, write


@pytest.fixture(scope="session")
def sql_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake of one run with a row or two in every table."""
    folder = tmp_path_factory.mktemp("lake")
    run_row, rows = small_run()
    write(folder, run_row, **{name: frame.to_dicts() for name, frame in rows.items()})
    publish(folder, analyse)
    return folder
