"""What quantisation changes besides accuracy: published predictions of three models.

    PRUNELAKE_DATA=data python -m benchmarks.flips flips_lake

Reads the per-item results of "[Re] Accuracy is Not All You Need on Current Small
Instruction-Tuned Models" (repository ab-ch90/quantization-flips-small-llms, MIT licence): the
predictions and confidences of Qwen2.5 1.5B and 3B and Phi-3.5-mini in fp16, int8 and int4 on three
tasks. Each model and task becomes a run in which fp16 is the baseline. Prints the tables of
docs/compare.md. `--data` is the folder with items.json; by default `flips` in `PRUNELAKE_DATA`.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.imports.imported_run import LabelledFile
from prunelake.imports.predictions import import_predictions
from prunelake.lake.sql.views import query
from prunelake.schema.verdicts import Verdict

MODELS = {
    "Qwen__Qwen2.5-1.5B-Instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen__Qwen2.5-3B-Instruct": "Qwen/Qwen2.5-3B-Instruct",
    "microsoft__Phi-3.5-mini-instruct": "microsoft/Phi-3.5-mini-instruct",
}
TASKS = {"arc": "arc_challenge", "mmlu": "mmlu", "csqa": "commonsense_qa"}
FORMATS = {"fp16": "float16", "int8": "int8", "int4": "int4"}
SIGNS = {"equivalent": "=", "improved": "+", "inconclusive": "?", "visible degradation": "v"}
"""The signs of `prunelake report`; every other verdict is written out."""

COMPARED = """
select
    runs.model_name as model,
    runs.task,
    levels.label,
    max(verdicts.delta) filter (where verdicts.metric = 'accuracy') as accuracy,
    max(verdicts.equivalence_low) filter (where verdicts.metric = 'accuracy') as accuracy_low,
    max(verdicts.equivalence_high) filter (where verdicts.metric = 'accuracy') as accuracy_high,
    max(verdicts.verdict) filter (where verdicts.metric = 'accuracy') as accuracy_verdict,
    any_value(flips.harmful_rate) as harmful,
    any_value(flips.beneficial_rate) as beneficial,
    any_value(flips.neutral_rate) as neutral,
    any_value(flips.flip_rate) as flip_rate,
    max(verdicts.delta_low) filter (where verdicts.metric = 'flip_rate') as flip_low,
    max(verdicts.delta_high) filter (where verdicts.metric = 'flip_rate') as flip_high,
    max(verdicts.verdict) filter (where verdicts.metric = 'flip_rate') as flip_verdict,
    bool_or(verdicts.is_shown_worse) filter (where verdicts.metric = 'flip_rate') as flips_worse,
    max(verdicts.delta) filter (where verdicts.metric = 'ece') as ece,
    max(verdicts.delta_low) filter (where verdicts.metric = 'ece') as ece_low,
    max(verdicts.delta_high) filter (where verdicts.metric = 'ece') as ece_high,
    max(verdicts.verdict) filter (where verdicts.metric = 'ece') as ece_verdict,
    bool_or(verdicts.is_shown_worse) filter (where verdicts.metric = 'ece') as ece_worse,
    any_value(flips.n) as n
from verdicts
inner join runs on verdicts.run_id = runs.run_id
inner join levels on verdicts.run_id = levels.run_id and verdicts.level = levels.level
inner join flips on verdicts.run_id = flips.run_id and verdicts.level = flips.level
where verdicts.variant is null
group by runs.model_name, runs.task, levels.label, verdicts.level
order by any_value(flips.flip_rate)
"""

BY_CONFIDENCE = """
with ranked as (
    select
        paired_predictions.is_flip,
        levels.label,
        ntile(4) over (
            partition by paired_predictions.run_id, paired_predictions.level
            order by paired_predictions.unpruned_confidence, paired_predictions.example_id
        ) as quarter
    from paired_predictions
    inner join levels
        on
            paired_predictions.run_id = levels.run_id
            and paired_predictions.level = levels.level
    where paired_predictions.level > 0
)

select
    label,
    quarter,
    count(*) filter (where is_flip) as flips,
    count(*) as n,
    avg(is_flip::integer) as flip_rate
from ranked
group by label, quarter
order by label desc, quarter
"""


def import_flips(lake: Path, data: Path) -> list[str]:
    """Import all predictions of the folder; the id of the run of each model and task."""
    items = json.loads((data / "items.json").read_text("utf-8"))
    run_ids = []
    with tempfile.TemporaryDirectory() as folder:
        for stem, model in MODELS.items():
            for benchmark, task in TASKS.items():
                files = [
                    _prediction_file(data, Path(folder), stem, label, benchmark, items[benchmark])
                    for label in FORMATS
                ]
                run_id, _ = import_predictions(lake, files[0], files[1:], task, model)
                run_ids.append(run_id)
    return run_ids


def _prediction_file(
    data: Path, folder: Path, stem: str, label: str, benchmark: str, items: list[dict[str, Any]]
) -> LabelledFile:
    """The predictions of one model in one number format, as a file that an import reads."""
    name = f"{stem}__{label}__{benchmark}"
    found = json.loads((data / f"{name}.json").read_text("utf-8"))
    rows = pl.DataFrame(
        {
            "id": [item["id"] for item in items],
            "prediction": found["preds"],
            "gold": [item["answer"] for item in items],
            "confidence": found["confs"],
            "options": [[*item["options"].values()] for item in items],
            "prompt": [item["question"] for item in items],
        }
    )
    path = folder / f"{name}.parquet"
    rows.write_parquet(path)
    return LabelledFile(label, path, dtype=FORMATS[label])


def tables(lake: Path) -> str:
    """The comparisons, and the flips by confidence of the baseline, as Markdown."""
    lines = [
        "| model | task | | accuracy | flipped | harmful, beneficial, neutral | ECE |",
        "| -- | -- | -- | -: | -: | -: | -: |",
    ]
    compared = query(lake, COMPARED)
    for row in compared.iter_rows(named=True):
        flips = [f"{100 * row[kind]:.1f}" for kind in ("harmful", "beneficial", "neutral")]
        cells = [
            row["model"].removesuffix("-Instruct").removesuffix("-instruct"),
            row["task"],
            row["label"],
            f"{row['accuracy']:+.3f} ({row['accuracy_low']:+.3f} to {row['accuracy_high']:+.3f}) "
            + SIGNS[row["accuracy_verdict"]],
            f"{100 * row['flip_rate']:.1f} % ({100 * row['flip_low']:.1f} to "
            f"{100 * row['flip_high']:.1f}) {_sign(row['flip_verdict'], row['flips_worse'])}",
            ", ".join(flips),
            f"{row['ece']:+.3f} ({row['ece_low']:+.3f} to {row['ece_high']:+.3f}) "
            + _sign(row["ece_verdict"], row["ece_worse"]),
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("-0.", "\N{MINUS SIGN}0."))
    shares = [
        pl.col(name) * pl.col("n") for name in ("flip_rate", "harmful", "beneficial", "neutral")
    ]
    counts = compared.select(*shares, "n").sum().row(0)
    lines += [
        "",
        "{:,.0f} flips ({:.0f} harmful, {:.0f} beneficial, {:.0f} neutral) of {:,} answers.".format(
            *counts
        ),
        "",
        "| | least confident quarter | second | third | most confident quarter |",
        "| -- | -: | -: | -: | -: |",
    ]
    quarters = query(lake, BY_CONFIDENCE)
    for label in quarters["label"].unique(maintain_order=True):
        rates = quarters.filter(label=label).select("flip_rate", "flips", "n").iter_rows()
        cells = [f"{100 * rate:.1f} % ({flips:,} of {n:,})" for rate, flips, n in rates]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sign(verdict: str, is_shown_worse: bool) -> str:
    if is_shown_worse and verdict == Verdict.inconclusive:
        return "worse"
    return SIGNS.get(verdict, f"**{verdict}**")


def main() -> None:
    """Import the predictions into a lake, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    asked = parser.parse_args()
    data = asked.data or Path(os.environ.get("PRUNELAKE_DATA", "data")) / "flips"
    if not (data / "items.json").is_file():
        parser.error(f"{data} has no items.json; give the folder by --data")
    import_flips(asked.lake, data)
    print(tables(asked.lake))


if __name__ == "__main__":
    main()
