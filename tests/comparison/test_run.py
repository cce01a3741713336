"""A comparison: the evidence of its levels is that of the sweeps, and the rest follows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from prunelake.comparison.run import run_comparison
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import UnknownLayer
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.run_tables import CELL_TABLES
from prunelake.settings import Settings
from prunelake.spec import Calibration, SweepSpec
from prunelake.sweeps.run import run_sweep
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import VOCABULARY, tiny_tokenizer
from tests.support.runs.lake_rows import rows_of


@dataclass(frozen=True)
class Compared:
    """A finished comparison, its lake, and a function that runs a sweep there."""

    spec: ComparisonSpec
    settings: Settings
    run_id: str

    def evaluate(self, spec: SweepSpec) -> str:
        return run_sweep(spec, self.settings)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return rows_of(self.settings.lake, sql)


def compare(folder: Path, spec: ComparisonSpec) -> Compared:
    settings = Settings(lake=folder / "lake", cache=folder / "cache", device="cpu")
    run_id = run_comparison(spec, settings, lambda sweep: run_sweep(sweep, settings))
    return Compared(spec, settings, run_id)


@pytest.fixture(scope="module")
def compared(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """A model beside itself in bfloat16 and without two layers."""
    spec = comparison(
        tiny_folder,
        {"model": str(tiny_folder), "label": "bf16", "dtype": "bfloat16"},
        {"model": str(tiny_folder), "label": "pruned", "level": 2},
    )
    return compare(tmp_path_factory.mktemp("compared"), spec)


@pytest.fixture
def other_tokens(tmp_path: Path) -> Path:
    """A saved model whose tokenizer has a token for each character."""
    folder = tmp_path / "other"
    tiny_tokenizer().save_pretrained(folder)
    tiny_model("llama", vocab_size=len(VOCABULARY), max_position_embeddings=2048).save_pretrained(
        folder
    )
    return folder


def comparison(baseline: Path, *candidates: dict[str, object]) -> ComparisonSpec:
    return ComparisonSpec.model_validate(
        {
            "baseline": {"model": str(baseline), "label": "base"},
            "candidates": candidates,
            "task": "everyday_knowledge",
            "rows": 5,
            "calibration": Calibration(windows=1, window_tokens=64),
            "explain": {"methods": ["leverage_shap"], "rows": 2, "leverage_samples": 1.0},
        }
    )


def test_each_level_has_its_name_format_and_size(compared: Compared) -> None:
    levels = compared.rows(f"from levels where run_id = '{compared.run_id}' order by level")
    assert [(row["label"], row["dtype"]) for row in levels] == [
        *(("base", "float32"), ("bf16", "bfloat16"), ("pruned", "float32"))
    ]
    size, half, pruned = (row["weight_bytes"] for row in levels)
    assert size == 2 * half
    assert half < pruned < size
    assert all(row["shares_tokens"] for row in levels)
    assert len(levels[2]["removed_layers"]) == 2


def test_the_evidence_of_a_level_matches_its_sweep(compared: Compared) -> None:
    levels = compared.rows(f"from levels where run_id = '{compared.run_id}'")
    for table in CELL_TABLES:
        rows = read.read_table(compared.settings.lake, table.name)
        for row in levels:
            source = rows.filter(run_id=row["source_run_id"], level=row["source_level"])
            own = rows.filter(run_id=compared.run_id, level=row["level"])
            keys = ("run_id", "level")
            assert_frame_equal(own.drop(keys), source.drop(keys), check_row_order=False)
            assert own.height or table.is_optional
    assert verify_lake(compared.settings.lake) == []


def test_a_comparison_in_the_lake_is_not_made_again(compared: Compared) -> None:
    lake = compared.settings.lake
    before = read.read_table(lake, "runs")
    again = run_comparison(compared.spec, compared.settings, compared.evaluate)
    assert again == compared.run_id
    assert_frame_equal(read.read_table(lake, "runs"), before)


def test_a_sweep_takes_the_cells_of_the_sweeps_not_of_the_comparison(compared: Compared) -> None:
    grown = compared.evaluate(compared.spec.sweep_spec(0).model_copy(update={"levels": (0, 1)}))
    donors = compared.rows(
        f"select distinct donor_run_id from copied_cells where run_id = '{grown}'"
    )
    sources = compared.rows("select distinct source_run_id from levels where dtype = 'float32'")
    assert {row["donor_run_id"] for row in donors} <= {row["source_run_id"] for row in sources}


def test_models_with_other_tokenizers_are_compared_without_their_tokens(
    tiny_folder: Path, other_tokens: Path, tmp_path: Path
) -> None:
    spec = comparison(tiny_folder, {"model": str(other_tokens), "label": "other"})
    rows = compare(tmp_path, spec).rows(
        "select metric, value, delta, note from headline_metrics where label = 'other'"
    )
    by_metric = {row["metric"]: row for row in rows}
    assert by_metric["accuracy"]["delta"] is not None
    assert by_metric["comprehensiveness"]["delta"] is not None
    assert by_metric["attribution_spearman"]["value"] is None
    assert "tokenizer" in by_metric["attribution_spearman"]["note"]


def test_no_model_is_measured_if_another_cannot_be(tiny_folder: Path, tmp_path: Path) -> None:
    spec = comparison(tiny_folder, {"model": str(tiny_folder), "level": 99})
    with pytest.raises(UnknownLayer):
        compare(tmp_path, spec)
    assert not (tmp_path / "lake").exists()
