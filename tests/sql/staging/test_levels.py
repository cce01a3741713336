"""The view levels, and views whose answers depend on the kind of a level."""

from pathlib import Path

from tests.support.runs.lake_rows import (
    attribution,
    example,
    named_level,
    prediction,
    rows_of,
    run_row,
    write,
    write_raw,
)

COMPARISON = run_row(
    "comparison", strategy="comparison", levels=[0, 1, 2, 3], removal_order=[], layer_count=None
)
C = str(COMPARISON["run_id"])


CANDIDATES = [
    named_level(C, 0, "base"),
    named_level(C, 1, "int8", dtype="torchao-int8+float32", weight_bytes=100),
    named_level(C, 2, "pruned", strategy="cosine", removed_layers=[1, 2], source_level=2),
    named_level(C, 3, "other", model="hub:a/b", shares_tokens=False, weight_bytes=None),
]


def test_a_level_of_a_sweep_is_named_by_its_number_of_removed_layers(tmp_path: Path) -> None:
    write_raw(tmp_path, run_row(levels=[0, 2], removal_order=[3, 1, 0, 2], strategy="mlp:cosine"))
    rows = rows_of(
        tmp_path,
        "select level, label, kind, removed_layers, strategy, model, dtype, shares_tokens "
        "from levels order by level",
    )
    same = {"kind": "removal", "model": "tiny", "dtype": "float32", "shares_tokens": True}
    assert rows == [
        {"level": 0, "label": "0", "removed_layers": [], "strategy": None} | same,
        {"level": 2, "label": "2", "removed_layers": [1, 3], "strategy": "mlp:cosine"} | same,
    ]


def test_the_removed_layers_of_an_import_are_unknown(tmp_path: Path) -> None:
    write_raw(tmp_path, run_row(levels=[0, 2], removal_order=[]))
    rows = rows_of(tmp_path, "select removed_layers from levels order by level")
    assert [row["removed_layers"] for row in rows] == [[], None]


def test_a_candidate_has_its_own_label_model_and_size(tmp_path: Path) -> None:
    write_raw(tmp_path, COMPARISON, levels=CANDIDATES)
    rows = rows_of(tmp_path, "from levels order by level")
    assert rows == [
        row | {"kind": "candidate", "strategy": row["strategy"] or None} for row in CANDIDATES
    ]
    (run,) = rows_of(tmp_path, "select unit from runs")
    assert run["unit"] is None


def comparison_of_attributions(lake: Path) -> None:
    """A comparison in which `other` has four tokens where the baseline has three."""
    by_level = {0: [3.0, 2.0, 1.0], 1: [3.0, 1.0, 2.0], 2: [1.0, 2.0, 3.0], 3: [1.0, 2.0, 3.0, 4.0]}
    write(
        lake,
        COMPARISON,
        levels=CANDIDATES,
        examples=[example(C, "test:0"), example(C, "test:1", position=1)],
        predictions=[
            prediction(C, level, f"test:{row}", [-1.0, -2.0 - level])
            for level in by_level
            for row in (0, 1)
        ],
        attributions=[
            attribution(C, level, "test:0", scores, seed=seed)
            for level, scores in by_level.items()
            for seed in (0, 1)
        ],
    )


def test_attributions_to_other_tokens_agree_with_their_own_level_only(tmp_path: Path) -> None:
    comparison_of_attributions(tmp_path)
    rows = rows_of(
        tmp_path, "select distinct level, other_level from attribution_pairs order by all"
    )
    pairs = [(row["level"], row["other_level"]) for row in rows]
    assert pairs == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 3)]
    assert rows_of(tmp_path, "select distinct problem from attributions") == [{"problem": None}]


def test_metrics_say_that_attributions_to_other_tokens_are_not_compared(tmp_path: Path) -> None:
    comparison_of_attributions(tmp_path)
    rows = rows_of(
        tmp_path, "select label, value, note from metrics where metric = 'overlap_5' order by level"
    )
    assert [(row["label"], row["value"]) for row in rows] == [
        *(("base", 1.0), ("int8", 1.0), ("pruned", 1.0), ("other", None))
    ]
    assert rows[3]["note"].startswith("its tokenizer splits prompts otherwise")


def test_nothing_is_correlated_over_candidates(tmp_path: Path) -> None:
    comparison_of_attributions(tmp_path)
    rows = rows_of(tmp_path, "select distinct pearson, kendall, note from correlations")
    note = "candidates have no order, so nothing is correlated over them"
    assert rows == [{"pearson": None, "kendall": None, "note": note}]
