"""`pl.compare`: a comparison as a run with labels."""

from pathlib import Path

import pytest

import prunelake as pl
from prunelake.errors import InvalidSpec


def test_a_comparison_is_a_run_whose_levels_have_labels(tiny_folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run = pl.compare(
        {"model": str(tiny_folder), "label": "base"},
        [f"half={tiny_folder},dtype=bfloat16"],
        "everyday_knowledge",
        rows=4,
        explain=False,
        lake=tmp_path / "lake",
        log=lines.append,
    )
    rows = run.metrics().filter(metric="accuracy")
    assert rows["label"].to_list() == ["base", "half"]
    assert set(run.verdicts()["label"]) == {"half"}
    assert any("bfloat16" in line for line in lines)


def test_a_wrong_candidate_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"compare: .*'layers=2' is no setting of a model"):
        pl.compare("./a", ["./b,layers=2"], "everyday_knowledge", lake=tmp_path)
