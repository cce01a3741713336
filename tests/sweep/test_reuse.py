"""Reuse: a sweep copies the cells that the lake has, and computes only the missing ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.lake import read
from prunelake.schema.run_tables import CELL_TABLES
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Method, Rows, SweepSpec
from tests.support.sweep_processes import Sweep, quick_sweep

METHODS: tuple[Method, ...] = ("input_x_gradient", "kernel_shap", "leverage_shap")


@dataclass(frozen=True)
class Lake:
    """A lake, and a sweep that fills it."""

    settings: Settings
    sweep_into: Sweep

    def sweep(self, spec: SweepSpec) -> str:
        return self.sweep_into(spec, self.settings)

    def tokens(self, run_id: str) -> int:
        return int(self.run(run_id)["forward_tokens"])

    def run(self, run_id: str) -> dict[str, Any]:
        return read.read_table(self.settings.lake, "runs", [run_id]).row(0, named=True)

    def cells(self, run_id: str) -> dict[str, pl.DataFrame]:
        return {
            table.name: read.read_table(self.settings.lake, table.name, [run_id])
            for table in CELL_TABLES
        }


@pytest.fixture(scope="module")
def sweep() -> Iterator[Sweep]:
    with pytest.MonkeyPatch.context() as patch:
        yield quick_sweep(patch)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def lake_in(folder: Path, cache: Path, sweep: Sweep) -> Lake:
    return Lake(Settings(lake=folder / "lake", cache=cache, device="cpu"), sweep)


@pytest.fixture
def lake(tmp_path: Path, cache: Path, sweep: Sweep) -> Lake:
    return lake_in(tmp_path, cache, sweep)


@pytest.fixture(scope="module")
def spec(tiny_folder: Path) -> SweepSpec:
    return SweepSpec(
        model=str(tiny_folder),
        task="everyday_knowledge",
        rows=Rows(sample=6),
        levels=(0, 1, 3),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(
            methods=METHODS,
            seeds=(0, 1),
            fractions=(0.1, 0.2),
            rows=2,
            levels=(0, 3),
            bounds_beam=1,
        ),
    )


@dataclass(frozen=True)
class Direct:
    """The run of `spec` in a lake without donors."""

    tokens: int
    cells: dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def direct(
    spec: SweepSpec, tmp_path_factory: pytest.TempPathFactory, cache: Path, sweep: Sweep
) -> Direct:
    lake = lake_in(tmp_path_factory.mktemp("direct"), cache, sweep)
    run_id = lake.sweep(spec)
    assert lake.run(run_id)["copied"] == []
    return Direct(lake.tokens(run_id), lake.cells(run_id))


def changed(spec: SweepSpec, explain: dict[str, Any] | None = None, **fields: Any) -> SweepSpec:
    assert spec.explain is not None
    if explain is not None:
        fields["explain"] = spec.explain.model_copy(update=explain)
    return spec.model_copy(update=fields)


SMALLER: dict[str, tuple[float, dict[str, Any]]] = {
    "rows": (0.02, {"rows": Rows(sample=4)}),
    "explained rows": (0.02, {"explain": {"rows": 1}}),
    "levels": (0.02, {"levels": (0, 3)}),
    "explained levels": (0.25, {"explain": {"levels": (0,)}}),
    "methods": (0.25, {"explain": {"methods": METHODS[:2]}}),
    "seeds": (0.25, {"explain": {"seeds": (0,)}}),
    "operators": (0.25, {"explain": {"operators": ("replace",)}}),
    "fractions": (0.25, {"explain": {"fractions": (0.1,), "bounds_beam": None}}),
    "predictions": (0.02, {"explain": None}),
}
"""Smaller specs, and the share of tokens that a direct run saves by asking everything at once: it
asks equal prompts once, and levels, prompts with a common beginning and options share tokens."""


@pytest.mark.parametrize(("saved", "smaller"), SMALLER.values(), ids=SMALLER)
def test_a_grown_run_equals_a_direct_one_and_computes_the_rest(
    lake: Lake, spec: SweepSpec, direct: Direct, saved: float, smaller: dict[str, Any]
) -> None:
    if "explain" in smaller and smaller["explain"] is None:
        donor = lake.sweep(spec.model_copy(update={"explain": None}))
    else:
        donor = lake.sweep(changed(spec, **smaller))
    run_id = lake.sweep(spec)
    tokens = lake.tokens(donor) + lake.tokens(run_id)
    assert tokens == pytest.approx(direct.tokens, rel=saved)
    for name, rows in lake.cells(run_id).items():
        assert_frame_equal(rows, direct.cells[name], abs_tol=1e-4)
