"""A lake of sweeps that reuse each other's cells, with the log of these sweeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.explanation_spec import Method
from prunelake.lake import read
from prunelake.schema.run_tables import CELL_TABLES
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Rows, SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.evaluate import evaluate_shard
from prunelake.sweeps.executor import LocalExecutor
from prunelake.sweeps.plan import plan_sweep
from prunelake.sweeps.run import run_sweep
from tests.support.lakes.lake_files import data_file_of, flip_byte
from tests.support.lakes.local_paths import local_path
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.tasks.question_task import write_task

METHODS: tuple[Method, ...] = ("difference_shap", "input_x_gradient", "leverage_shap")


QUESTIONS = ("is it up", "ye may", "a red cab", "no bye", "abba", "we see", "or tea", "dab it")


@dataclass(frozen=True)
class Lake:
    """A lake, the log of its sweeps, and questions about its runs."""

    settings: Settings
    lines: list[str] = field(default_factory=list)

    def sweep(self, spec: SweepSpec) -> str:
        return run_sweep(spec, self.settings, LocalExecutor(self.lines.append))

    def run(self, run_id: str) -> dict[str, Any]:
        return read.read_table(self.settings.lake, "runs", [run_id]).row(0, named=True)

    def tokens(self, *run_ids: str) -> int:
        return sum(self.run(run_id)["forward_tokens"] for run_id in run_ids)

    def cells(self, run_id: str) -> dict[str, pl.DataFrame]:
        """The cells of a run by table; these sweeps measure no texts."""
        return {
            table.name: read.read_table(self.settings.lake, table.name, [run_id])
            for table in CELL_TABLES
            if table.name != "texts"
        }

    def copied(self, run_id: str) -> dict[str, int]:
        """The number of copied cells by table."""
        counts: dict[str, int] = {}
        for row in self.run(run_id)["copied"]:
            counts[row["table"]] = counts.get(row["table"], 0) + row["cells"]
        return counts


def lake_in(place: Path, folder: Path) -> Lake:
    return Lake(Settings(lake=place / "lake", cache=folder / "cache", device="cpu"))


@dataclass(frozen=True)
class Direct:
    """The run of `donor_spec` in a lake without donors."""

    lake: Lake
    run_id: str
    tokens: int
    cells: dict[str, pl.DataFrame]


def assert_same_cells(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name, rows in expected.items():
        assert_frame_equal(found[name], rows, abs_tol=1e-4)


def write_donor_folder(folder: Path) -> Path:
    """Write a model of letters and a task of a few short questions to a folder."""
    tiny_tokenizer().save_pretrained(folder / "model")
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder / "model")
    write_task(folder, "questions", [(n, text, n % 2) for n, text in enumerate(QUESTIONS)])
    return folder


def donor_spec(folder: Path) -> SweepSpec:
    """A sweep of the model and the questions in a folder."""
    return SweepSpec(
        model=str(folder / "model"),
        task=str(folder / "questions.yaml"),
        rows=Rows(sample=6),
        levels=(0, 1, 3),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(
            methods=METHODS,
            seeds=(0, 1),
            fractions=(0.2, 0.4),
            rows=2,
            levels=(0, 3),
            bounds_beam=1,
        ),
    )


def changed(spec: SweepSpec, explain: Any = (), **fields: Any) -> SweepSpec:
    if explain is not None:
        assert spec.explain is not None
        explain = spec.explain.model_copy(update=dict(explain))
    return spec.model_copy(update=fields | {"explain": explain})


def interrupted(lake: Lake, spec: SweepSpec, shard: str) -> str:
    """The id of a run whose sweep stops in front of a shard."""

    def evaluate(work: Any, *arguments: Any) -> Any:
        if work.shard.name == shard:
            raise RuntimeError("the power is gone")
        return evaluate_shard(work, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "evaluate_shard", evaluate)
        with pytest.raises(RuntimeError, match="the power is gone"):
            lake.sweep(spec)
    return plan_sweep(spec, lake.settings).identity.run_id


def damage(lake: Lake, run_id: str, table: str) -> Path:
    path = data_file_of(local_path(lake.settings.lake), table, run_id)
    flip_byte(path, path.stat().st_size // 3)
    return path
