"""A gate on models: it measures what the lake lacks, and finds it again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import prunelake as pl
from prunelake.errors import InvalidSpec, UnknownTask
from prunelake.gate.gate_file import Gate
from prunelake.gate.measure import spec_of
from prunelake.gate.results import GateResult
from prunelake.lake.read import run_ids
from prunelake.spec import Rows, Strategy, SweepSpec
from tests.support.runs.lake_rows import named_level, prediction, run_row, write

CRITERIA = [
    {"metric": "accuracy", "margin": 0.9},
    {"metric": "comprehensiveness", "margin": 0.5, "method": "input_x_gradient"},
]


@pytest.fixture(scope="module")
def fields(tiny_folder: Path) -> dict[str, Any]:
    """A model beside itself in bfloat16."""
    return {
        "baseline": f"base={tiny_folder}",
        "candidates": [f"bf16={tiny_folder},dtype=bfloat16"],
        "tasks": ["everyday_knowledge"],
        "criteria": CRITERIA,
    }


@pytest.fixture(scope="module")
def lake(fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which the gate has measured the models."""
    folder = tmp_path_factory.mktemp("lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNELAKE_CACHE", str(folder / "cache"))
        patch.setenv("PRUNELAKE_DEVICE", "cpu")
        found = check(
            fields | {"rows": 8, "explain": {"methods": ["input_x_gradient"], "rows": 2}}, folder
        )
    assert [(c.candidate, c.metric, c.n) for c in found.checks] == [
        ("bf16", "accuracy", 8),
        ("bf16", "comprehensiveness", 2),
    ]
    assert found.checks[0].result == "passed"  # the margin is almost the range
    return folder


def check(fields: dict[str, Any], lake: Path) -> GateResult:
    return pl.check_gate(fields, lake=lake, log=lambda _: None)


def test_without_rows_the_gate_finds_the_comparison_by_its_labels(
    lake: Path, fields: dict[str, Any]
) -> None:
    before = run_ids(lake)
    found = check(fields, lake)
    named = {"runs": [found.checks[0].run_id], "tasks": fields["tasks"], "criteria": CRITERIA}
    assert check(named, lake) == found
    assert check(named | {"candidates": ["bf16"]}, lake) == found
    assert check(named | {"levels": [1]}, lake) == found
    assert run_ids(lake) == before


def test_unknown_candidates_are_named_with_the_choices(lake: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidSpec, match=r"no comparison of base with int4 .* it has base with bf16"
    ):
        check(fields | {"candidates": ["int4"]}, lake)
    run_id = check(fields, lake).checks[0].run_id
    named = {"runs": [run_id], "tasks": fields["tasks"], "criteria": CRITERIA}
    with pytest.raises(InvalidSpec, match=rf"candidate 'x': run {run_id} .* it has bf16"):
        check(named | {"candidates": ["x"]}, lake)
    with pytest.raises(InvalidSpec, match=rf"level 2: run {run_id} has the levels 1"):
        check(named | {"levels": [2]}, lake)


def test_an_unknown_task_is_refused_before_the_models_are_measured_on_others(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UnknownTask):
        check(fields | {"rows": 5, "tasks": ["everyday_knowledge", "nope"]}, tmp_path / "lake")
    assert not (tmp_path / "lake").exists()


def test_models_are_explained_only_where_a_criterion_needs_it(fields: dict[str, Any]) -> None:
    gate = Gate.model_validate(fields)
    spec = gate.spec("everyday_knowledge", Rows(first=5))
    assert spec.explain is not None
    assert spec.explain.methods == ("input_x_gradient",)
    predictions_only = gate.model_copy(update={"criteria": gate.criteria[:1]})
    assert predictions_only.spec("everyday_knowledge", Rows(first=5)).explain is None
    removal = Gate.model_validate(
        {"model": "tiny", "levels": [4], "strategy": "last", "dtype": "bfloat16"}
        | {"tasks": ["boolq"], "criteria": [{"metric": "sufficiency"}]}
    )
    assert removal.spec("boolq", Rows(first=5)) == SweepSpec(
        model="tiny",
        task="boolq",
        rows=Rows(first=5),
        levels=(4,),
        strategy=Strategy(name="last"),
        dtype="bfloat16",
    )
    wrong = removal.model_copy(update={"dtype": "int9"})
    with pytest.raises(InvalidSpec, match="gate: dtype: Input should be 'float32', "):
        spec_of(wrong, "boolq", Rows(first=5))


def test_labels_of_several_models_are_ambiguous_and_the_latest_revision_counts(
    tmp_path: Path,
) -> None:
    def compared(name: str, model: str, revision: str, day: int) -> str:
        run = run_row(name, created_at=datetime(2026, 1, day, tzinfo=UTC), strategy="comparison")
        run_id = str(run["run_id"])
        levels = [
            named_level(run_id, 0, "fp16", model=model),
            named_level(run_id, 1, "int8", model=f"{model}-int8", revision=revision),
        ]
        predictions = [prediction(run_id, k, "test:0", [0.0, -1.0]) for k in (0, 1)]
        return write(tmp_path, run, levels=levels, predictions=predictions)

    gate = {"baseline": "fp16", "candidates": ["int8"], "tasks": ["demo"], "criteria": CRITERIA[:1]}
    compared("old", "a", "1", 1)
    new = compared("new", "a", "2", 2)
    assert [c.run_id for c in check(gate, tmp_path).checks] == [new]
    other = compared("other", "b", "1", 3)
    with pytest.raises(
        InvalidSpec, match="several comparisons have these labels, of b, b-int8; a, a-"
    ):
        check(gate, tmp_path)
    for named in ({"baseline": "fp16=b"}, {"candidates": ["int8=b-int8"]}):
        assert [c.run_id for c in check(gate | named, tmp_path).checks] == [other]
