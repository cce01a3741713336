"""The metrics of a level, as the model card shows them."""

from pathlib import Path

from prunelake.lake.sql.run_lookup import level_metrics
from tests.support.runs.example_runs import judged_run


def test_a_metric_is_worse_while_accuracy_is_undecided(tmp_path: Path) -> None:
    run_id = judged_run(tmp_path, n=80)
    rows = level_metrics(tmp_path, [run_id], 1, ["accuracy", "brier", "ece"])
    assert rows.select("metric", "verdict").rows() == [
        ("accuracy", "inconclusive"),
        ("brier", "inconclusive"),
        ("ece", "worse"),
    ]
