"""The model card of an exported checkpoint: its origin, how to load it, and its evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import polars as pl

from prunelake.export.card.card_cost import cost_section
from prunelake.export.card.card_loading import loading_section
from prunelake.export.card.card_text import missing_text, text_section
from prunelake.export.card.markdown import format_interval, format_number, table_row
from prunelake.lake.sql.run_lookup import PastRun
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.table import TableRow
from prunelake.spec import UNIT_NAMES, CheckpointKind, Dtype, GgufQuantisation, Unit, weight_format
from prunelake.tasks.catalogue import get_task, task_names

CARD_METRICS = ("accuracy", "ece", "comprehensiveness")
CARD_TEXT_METRICS = ("perplexity", "repetition")
REMOVAL_SENTENCES: dict[Unit, str] = {
    "attention": "The blocks named below run without their attention; their MLPs still run.",
    "mlp": "The blocks named below run without their MLP; their attention still runs.",
    "block": "The blocks named below pass their input on unchanged.",
    "linear_attention": "The linear-attention layers named below add nothing; MLPs still run.",
    "state_space": "The state-space layers named below add nothing; MLPs still run.",
    "expert": "Blocks lack the experts named below, and routers choose among the others.",
}


@dataclass(frozen=True)
class PrunedModel:
    """A model without a unit of `layers`; `origin` says in words where their order comes from.

    `model_type` is the name of the architecture in config.json.
    """

    reference: str
    revision: str
    architecture: str
    model_type: str
    layer_count: int
    strategy: str
    unit: Unit
    level: int
    layers: tuple[int, ...]
    origin: str
    dtype: Dtype


@dataclass(frozen=True)
class ModelOrigin:
    """The unpruned model's name on the hub, and its licence (`apache-2.0`); empty if unknown."""

    base_model: str = ""
    license: str = ""


UNKNOWN_ORIGIN = ModelOrigin()


def missing_evaluation(pruned: PrunedModel, runs: Sequence[PastRun]) -> str | None:
    """Why the lake has no evaluation of this model, as a sentence; None if it has one."""
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
    runs: Sequence[PastRun],
    metrics: pl.DataFrame,
    costs: pl.DataFrame,
    origin: ModelOrigin = UNKNOWN_ORIGIN,
    quantisation: GgufQuantisation | None = None,
    text: TableRow | None = None,
    with_code: bool = False,
) -> str:
    """The text of README.md.

    Args:
        pruned: the model of the checkpoint.
        kind: portable or compact, which load differently.
        runs: the runs of the lake that remove the same layers.
        metrics: the rows of `run_lookup.level_metrics` of these runs.
        costs: the rows of `run_lookup.level_costs` of these runs.
        origin: the base model and the licence for the card's metadata, where they are known.
        quantisation: the number format of the matrices in a GGUF file, if it is not the model's.
        text: the row of `run_lookup.level_text` of these runs; None without measured texts.
        with_code: whether a compact checkpoint has the code by which transformers loads it.
    """
    base = pruned.reference.removeprefix("hub:").partition("@")[0]
    base_model = origin.base_model or (base if pruned.reference.startswith("hub:") else "")
    header = [
        "---",
        *([f"base_model: {base_model}"] if base_model else []),
        *([f"license: {origin.license}"] if origin.license else []),
        f"library_name: {'gguf' if kind is CheckpointKind.gguf else 'transformers'}",
        "pipeline_tag: text-generation",
        f"tags: [prunelake, pruning, {pruned.unit.replace('_', '-')}-removal]",
    ]
    unit = UNIT_NAMES[pruned.unit]
    removed = _removed_text(pruned)
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
            f"| removal order | {pruned.origin} |",
            f"| number format of the weights | {quantisation or weight_format(pruned.dtype)} |",
            f"| written by | PruneLake {version('prunelake')} |",
            "",
            "The licence of the unpruned model applies"
            + (f": {origin.license}." if origin.license else "."),
            "",
            "## Load it",
            "",
            *loading_section(kind, pruned.unit, pruned.model_type, with_code),
            "",
            "## Evaluation",
            "",
            *_results_section(pruned, runs, metrics, costs),
            *text_section(pruned.level, text),
            *cost_section(kind, costs),
        ]
    )


def _removed_text(pruned: PrunedModel) -> str:
    """The removed layers; or the removed experts of each block with experts."""
    if pruned.unit != "expert":
        return ", ".join(map(str, sorted(pruned.layers)))
    by_block: dict[int, list[int]] = {}
    for number in sorted(pruned.layers):
        block, expert = divmod(number, pruned.layer_count)
        by_block.setdefault(block, []).append(expert)
    return "; ".join(
        f"block {block}: {', '.join(map(str, experts))}" for block, experts in by_block.items()
    )


def prompt_template(task: str) -> str | None:
    """The template of a task's prompts, with the names of columns in braces; None if unknown here.

    A task of a file or of lm-evaluation-harness has its template there.
    """
    return get_task(task).prompt if task in task_names() else None


def _results_section(
    pruned: PrunedModel, runs: Sequence[PastRun], metrics: pl.DataFrame, costs: pl.DataFrame
) -> list[str]:
    if reason := missing_evaluation(pruned, runs):
        return [reason, ""]
    measured = [run for run in runs if pruned.level in run.levels]
    lines = [
        f"Level {pruned.level} and the unpruned model (level 0), with 95 % intervals over the "
        "examples of a task. A verdict judges the change: hidden degradation means that the metric "
        "is worse while accuracy is stable.",
        "",
        "| task | metric | level 0 | here | 95 % | change | 95 % | verdict | examples | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    missing: list[str] = []
    for run in measured:
        rows = {
            row["metric"]: row
            for row in metrics.iter_rows(named=True)
            if row["run_id"] == run.run_id
        }
        shown = (*CARD_METRICS, *CARD_TEXT_METRICS)
        lines += [_metric_row(run, rows[metric]) for metric in shown if metric in rows]
        missing += [
            f"{METRIC_DEFINITIONS[metric].label} on {run.task}"
            for metric in CARD_METRICS
            if metric not in rows
        ]
        if not rows:
            missing.append(f"run {run.run_id} has no analysis (`prunelake analyse` adds it)")
    templates = {run.task: prompt_template(run.task) for run in measured}
    for task, template in templates.items():
        if template is not None:
            lines += ["", f"A prompt of {task}, without examples in front:", "", "```text"]
            lines += [template, "```"]
    lines += ["", "## Not evaluated", ""]
    lines += [f"- {item}" for item in missing]
    stored = weight_format(pruned.dtype)
    if other_formats := sorted({run.dtype for run in measured} - {stored}):
        lines.append(
            f"- the effect of computing in {stored}: the runs computed in "
            f"{', '.join(other_formats)}"
        )
    cost = "" if costs.height else ", its speed and its memory"
    if "perplexity" in metrics["metric"]:
        lines.append(f"- any other task, and longer texts{cost}")
    else:
        lines.append(f"- any other task, and the text that the model writes{cost}")
        lines += missing_text(measured)
    return [*lines, ""]


def _metric_row(run: PastRun, row: dict[str, Any]) -> str:
    settings = " ".join(filter(None, (row["method"], row["operator"], row["variant"])))
    return table_row(
        run.task,
        METRIC_DEFINITIONS[row["metric"]].label + (f" ({settings})" if settings else ""),
        format_number(row["unpruned_value"]),
        format_number(row["value"]),
        format_interval(row["ci_low"], row["ci_high"]),
        format_number(row["delta"], is_change=True),
        format_interval(row["delta_low"], row["delta_high"], is_change=True),
        row["verdict"] or "none",
        "" if row["n"] is None else str(row["n"]),
        f"`{run.run_id}` ({run.dtype})",
    )
