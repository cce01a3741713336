"""A sequential run of three looks, and runs with a fixed number of rows."""

from pathlib import Path
from typing import Any

from prunelake.identity import RunIdentity
from prunelake.schema.table import FORMAT_VERSION
from prunelake.spec import Explanation, Look, SequentialDesign, Strategy
from tests.support.runs.drawn_runs import drawn_explanations, drawn_predictions
from tests.support.runs.lake_rows import example, run_row, write

DESIGN = SequentialDesign(
    margin=0.3,
    planned_rows=60,
    planned_explained=((1, 12), (2, 16)),
    looks=(
        Look(run_id="a" * 16, rows=20, explained=((1, 6), (2, 4))),
        Look(run_id="b" * 16, rows=20, explained=((1, 6), (2, 6))),
    ),
)


def sequential_run(design: SequentialDesign | None, rows: int, **levels: int) -> dict[str, Any]:
    """A run of the first rows, which explains 8 of them, fewer at the levels named l1 and l2."""
    fewer = tuple((int(name[1:]), count) for name, count in levels.items())
    identity = RunIdentity(
        format_version=FORMAT_VERSION,
        revision="0" * 40,
        task="demo",
        data_hash=f"{rows} {fewer}",
        levels=(0, 1, 2),
        strategy=Strategy(),
        calibration_hash=None,
        explain=Explanation(rows=min(8, rows), levels=(0, 1, 2), level_rows=fewer),
        dtype="float32",
        special_tokens="tokenizer",
        search_hash=None,
        sequential=design,
    )
    return run_row(
        run_id=identity.run_id,
        identity=identity.model_dump_json(),
        levels=[0, 1, 2],
        example_count=rows,
    )


def write_first_rows(lake: Path, run: dict[str, Any], explained: dict[int, int]) -> str:
    """Write the first rows of one drawn sample; each level explains its own number of them."""
    run_id, count = str(run["run_id"]), run["example_count"]
    names = {f"test:{i}" for i in range(count)}

    def own(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            row | {"run_id": run_id}
            for row in rows
            if row["example_id"] in names
            and ("method" not in row or int(row["example_id"][5:]) < explained[row["level"]])
        ]

    explanations = drawn_explanations()
    return write(
        lake,
        run,
        predictions=own(drawn_predictions(n=40)),
        examples=[example(run_id, f"test:{i}", position=i) for i in range(count)],
        attributions=own(explanations["attributions"]),
        deletions=own(explanations["deletions"]),
    )
