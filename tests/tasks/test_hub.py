from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import DatasetNotFound
from prunelake.spec import Rows
from prunelake.tasks.catalogue import get_task
from prunelake.tasks.rows import load_examples
from tests.support.servers.hub_server import run_against, running_hub
from tests.support.tasks.task_rows import ROWS

CONVERTED_RTE = "/datasets/nyu-mll/glue/resolve/refs%2Fconvert%2Fparquet/rte"
PREAMBLE = (  # the beginning of a program that runs in its own process
    "from prunelake.errors import DatasetNotFound\n"
    "from prunelake.spec import Rows\n"
    "from prunelake.tasks.catalogue import get_task\n"
    "from prunelake.tasks.rows import load_examples\n"
)


def test_rows_come_from_the_hub(tmp_path: Path) -> None:
    row, example = ROWS["arc_easy"]
    path = tmp_path / "0000.parquet"
    pl.DataFrame([row]).write_parquet(path)
    url = "/datasets/allenai/ai2_arc/resolve/refs%2Fconvert%2Fparquet/ARC-Easy/test/0000.parquet"
    load = "print(load_examples(get_task('arc_easy'), Rows(first=1), None))"
    with running_hub({url: path.read_bytes()}) as endpoint:
        assert run_against(endpoint, tmp_path / "cache", PREAMBLE + load).strip() == repr([example])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "RepositoryNotFoundError: 404"),
        ({f"{CONVERTED_RTE}/validation/0000.parquet": b"x"}, "cannot be read: ComputeError"),
    ],
)
def test_a_failure_of_the_hub_is_one_line_with_its_reason(
    files: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    code = (
        "try: load_examples(get_task('rte'), Rows(first=1), None)\n"
        "except DatasetNotFound as error: print(error)"
    )
    with running_hub(files) as endpoint:
        output = run_against(endpoint, tmp_path, PREAMBLE + code)
    assert len(output.splitlines()) == 1
    assert reason in output


def test_the_error_without_a_network_names_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DatasetNotFound, match=r"go online, or set PRUNELAKE_DATA .*rte/validation"):
        load_examples(get_task("rte"), Rows(first=1), None)
