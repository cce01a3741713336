"""The model card of an exported checkpoint: what it is, and what was and was not measured of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import polars as pl

from prunelake.spec import UNIT_NAMES, Dtype, Unit

if TYPE_CHECKING:  # the command line needs `CheckpointKind` before it needs a lake
    from prunelake.lake.run_lookup import PastRun

CARD_METRICS = ("accuracy", "ece", "comprehensiveness")
REMOVAL_SENTENCES: dict[Unit, str] = {
    "attention": "The blocks named below add nothing by attention; their MLPs still run.",
    "mlp": "The blocks named below add nothing by MLP; their attention still runs.",
    "block": "The blocks named below add nothing.",
}
METRIC_LABELS = {"accuracy": "accuracy", "ece": "ECE", "comprehensiveness": "comprehensiveness"}


class CheckpointKind(StrEnum):
    """A checkpoint that any transformers loads, or one without the weights of what is removed."""

    portable = "portable"
    compact = "compact"


@dataclass(frozen=True)
class PrunedModel:
    """A model that lacks a unit of some layers; `origin` says where their choice is from."""

    reference: str
    revision: str
    architecture: str
    layer_count: int
    strategy: str
    unit: Unit
    level: int
    layers: tuple[int, ...]
    origin: str
    dtype: Dtype


def weight_format(dtype: Dtype) -> Dtype:
    """The number format of the weights; how they multiply is not a matter of a checkpoint."""
    return "float32" if dtype == "float32_bf16" else dtype


def missing_evaluation(pruned: PrunedModel, runs: Sequence["PastRun"]) -> str | None:
    """Why nothing is known of this model, in a sentence; None where some run evaluated it."""
    if not runs:
        return f"Nothing was measured: the lake has no run of this model by {pruned.strategy}."
    if not any(pruned.level in run.levels for run in runs):
        levels = sorted({level for run in runs for level in run.levels})
        return (
            f"Nothing was measured at level {pruned.level}: the lake's runs have the levels "
            f"{', '.join(map(str, levels))}."
        )
    return None


def render_model_card(
    pruned: PrunedModel,
    kind: CheckpointKind,
    runs: Sequence["PastRun"],
    figures: pl.DataFrame,
    costs: pl.DataFrame,
) -> str:
    """The text of README.md; `runs` remove the same layers.

    `figures` are `run_lookup.level_metrics`, `costs` are `run_lookup.level_costs`.
    """
    base = pruned.reference.removeprefix("hub:").partition("@")[0]
    header = ["---", "tags: [attention-removal]"]
    if pruned.reference.startswith("hub:"):
        header.insert(1, f"base_model: {base}")
    unit = UNIT_NAMES[pruned.unit]
    removed = ", ".join(map(str, sorted(pruned.layers)))
    return "\n".join(
        [
            *header,
            "---",
            "",
            f"# {base.rpartition('/')[2]} without {pruned.level} of its {pruned.layer_count} "
            f"{unit}",
            "",
            f"{REMOVAL_SENTENCES[pruned.unit]} No weight was trained or changed otherwise.",
            "",
            "| | |",
            "|---|---|",
            f"| model | `{pruned.reference}` |",
            f"| revision | `{pruned.revision}` |",
            f"| architecture | {pruned.architecture} |",
            f"| removed {unit} (the first is 0) | {removed} |",
            f"| chosen by | {pruned.strategy}, level {pruned.level} |",
            f"| the choice is from | {pruned.origin} |",
            f"| number format of the weights | {weight_format(pruned.dtype)} |",
            f"| written by | PruneLake {version('prunelake')} |",
            "",
            "The licence is that of the model it was made from.",
            "",
            "## Load it",
            "",
            *_loading_section(kind, pruned.unit),
            "",
            "## What was measured",
            "",
            *_results_section(pruned, runs, figures, costs),
            *_cost_section(kind, costs),
        ]
    )


def _loading_section(kind: CheckpointKind, unit: Unit) -> list[str]:
    has_cache = unit != "mlp"
    if kind is CheckpointKind.portable:
        cached = ", and so is their KV cache" if has_cache else ""
        return [
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            "```",
            "",
            f"The output projections of the removed {UNIT_NAMES[unit]} are zero. Their weights are "
            f"still there{cached}: this checkpoint is as large and as slow as the model.",
        ]
    cached = " and their KV cache" if has_cache else ""
    return [
        "```python",
        "from pathlib import Path",
        "from prunelake.models.loading import load_model",
        "from prunelake.models.sources import resolve_model",
        "",
        'loaded = load_model(resolve_model("FOLDER", Path("cache")))',
        "model, tokenizer = loaded.model, loaded.tokenizer",
        "```",
        "",
        f"The weights of the removed {UNIT_NAMES[unit]}{cached} are gone. transformers has no "
        "configuration for that, so that `from_pretrained` refuses this folder: it would fill in "
        "random weights.",
    ]


def _results_section(
    pruned: PrunedModel, runs: Sequence["PastRun"], figures: pl.DataFrame, costs: pl.DataFrame
) -> list[str]:
    if reason := missing_evaluation(pruned, runs):
        return [reason, ""]
    measured = [run for run in runs if pruned.level in run.levels]
    lines = [
        f"At level {pruned.level}, beside the unpruned model (level 0), with 95 % intervals over "
        "the examples of a task. A verdict is of the change: hidden degradation is a metric that "
        "is worse while accuracy is stable.",
        "",
        "| task | metric | level 0 | here | 95 % | change | 95 % | verdict | examples | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lacking: list[str] = []
    for run in measured:
        rows = {
            row["metric"]: row for row in figures.iter_rows(named=True) if _belongs_to(row, run)
        }
        lines += [_metric_row(run, rows[metric]) for metric in CARD_METRICS if metric in rows]
        lacking += [
            f"{METRIC_LABELS[metric]} on {run.task}"
            for metric in CARD_METRICS
            if metric not in rows
        ]
        if not rows:
            lacking.append(f"run {run.run_id} has no analysis (`prunelake analyse` adds it)")
    lines += ["", "## What was not measured", ""]
    lines += [f"- {what}" for what in lacking]
    stored = weight_format(pruned.dtype)
    if others := sorted({run.dtype for run in measured} - {stored}):
        lines.append(
            f"- what computing in {stored} changes: the runs in {', '.join(others)} did not"
        )
    beyond = "" if costs.height else ", its speed and its memory"
    lines.append(f"- any other task, text that the model writes{beyond}")
    return [*lines, ""]


def _cost_section(kind: CheckpointKind, costs: pl.DataFrame) -> list[str]:
    """What the level costs beside level 0, a line for each device; nothing where none was profiled.

    Speeds are medians, with the least and the greatest of the repeats.
    """
    if costs.is_empty():
        return []
    like = "as this checkpoint is" if kind is CheckpointKind.compact else "as its compact kind is"
    return [
        "## What it costs",
        "",
        f"Measured really without what is removed, {like}; beside level 0 on the same device.",
        "",
        "| device | number format | weights | KV cache a token | peak memory | prefill | decode |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['device']} | {row['dtype']} | {row['weight_bytes'] / 1e6:.1f} MB "
            f"({_share(row['weight_share'])}) | {row['kv_bytes_per_token'] / 1e3:.1f} kB "
            f"({_share(row['kv_share'])}) | {_memory(row)} | {_speed(row, 'prefill')} | "
            f"{_speed(row, 'decode')} |"
            for row in costs.iter_rows(named=True)
        ),
        "",
    ]


def _speed(row: dict[str, Any], what: str) -> str:
    ratio, low, high = (row[f"{what}_speedup{bound}"] for bound in ("", "_low", "_high"))
    per_second = row[f"{what}_tokens_per_second"]
    return f"{per_second:.0f} tokens/s ({ratio:.2f} x, {low:.2f} to {high:.2f})"


def _memory(row: dict[str, Any]) -> str:
    if row["peak_bytes"] is None:
        return "not measured"
    return f"{row['peak_bytes'] / 1e6:.0f} MB ({_share(row['memory_share'])})"


def _share(share: float | None) -> str:
    return "none before" if share is None else f"{100 * share:.1f} %"


def _belongs_to(row: dict[str, Any], run: "PastRun") -> bool:
    return bool(row["run_id"] == run.run_id)


def _metric_row(run: "PastRun", row: dict[str, Any]) -> str:
    how = " ".join(filter(None, (row["method"], row["operator"], row["variant"])))
    cells = (
        run.task,
        METRIC_LABELS[row["metric"]] + (f" ({how})" if how else ""),
        _number(row["unpruned_value"]),
        _number(row["value"]),
        _interval(row["ci_low"], row["ci_high"]),
        _number(row["delta"], "+"),
        _interval(row["delta_low"], row["delta_high"], "+"),
        row["verdict"] or "none",
        "" if row["n"] is None else str(row["n"]),
        f"`{run.run_id}` ({run.dtype})",
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "none"  # too few examples
    return f"{_number(low, sign)} to {_number(high, sign)}"
