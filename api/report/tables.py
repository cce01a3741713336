"""The tables of the report, from rows of `queries`."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.schema.verdicts import Verdict

from ..findings.level_names import LevelNames
from ..findings.level_rows import JUDGED_METRICS, is_published
from ..findings.verdict_labels import VERDICT_LABELS
from ..findings.wording import (
    MISSING,
    count,
    interval,
    label,
    number,
    order_name,
    percent,
    ranges,
    signed,
)
from . import html
from .html import TableCell

Row = Mapping[str, Any]

ACCURACY_WORDS = {
    Verdict.equivalent: "stable",
    Verdict.visible_degradation: "falls",
    Verdict.improved: "rises",
    Verdict.inconclusive: "inconclusive",
}


def run_table(runs: Sequence[Row], labels_of: Mapping[str, Sequence[str]]) -> str:
    """One row for each run of a model; `labels_of` are the labels of comparisons by run id."""
    header = ["task", "examples", "levels", "dtype", "device", "forward tokens", "seconds", "run"]
    rows = [
        [
            run["task"],
            count(run["example_count"] or None),
            ", ".join(labels)
            if (labels := labels_of.get(run["run_id"]))
            else ranges(run["levels"]),
            run["dtype"] or MISSING,
            run["device"],
            count(run["forward_tokens"] or None),
            count(round(run["duration_s"]) if run["duration_s"] else None),
            run["run_id"],
        ]
        for run in runs
    ]
    return html.table("The runs.", header, rows, text_columns={2, 3, 4, 7})


def verdict_table(levels: pl.DataFrame) -> str:
    """level x metric: the verdict, the value and its change; a second table has all numbers."""
    names = LevelNames.of(levels)
    known = levels.drop_nulls("value")
    present = [metric for metric in JUDGED_METRICS if known.filter(metric=metric).height]
    by_key = {(row["level"], row["metric"]): row for row in known.iter_rows(named=True)}
    rows: list[list[str | TableCell]] = [
        [names.short(level), *(_verdict_cell(by_key.get((level, metric))) for metric in present)]
        for level in sorted(set(levels["level"]))
    ]
    header = [names.kind, *(label(metric) for metric in present)]
    baseline = "the baseline" if names.is_comparison else "level 0"
    if is_published(levels):
        caption = f"Published values, and their change from {baseline}. There are no verdicts."
        return html.table(caption, header, rows)
    caption = f"Verdicts by {names.kind}, each with the value and its change from {baseline}."
    table = html.table(caption, header, rows)
    return f"{table}{_legend(known, names)}{_numbers(known, present, names)}"


def correlation_table(correlations: pl.DataFrame) -> str:
    """metric x scope: each kind of correlation with accuracy, and its interval."""
    kinds = ("pearson", "spearman", "kendall", "partial")
    has_notes = correlations["note"].null_count() < correlations.height
    rows: list[list[str | TableCell]] = [
        [
            label(row["metric"]),
            f"{row['scope']} ({row['level_count']})",
            *(
                TableCell(number(row[kind]), interval(row[f"{kind}_low"], row[f"{kind}_high"]))
                for kind in kinds
            ),
            *([row["note"] or ""] if has_notes else []),
        ]
        for row in correlations.iter_rows(named=True)
    ]
    if not rows:
        return ""
    header = ["metric", "levels", "Pearson", "Spearman", "Kendall", "given the level"]
    header += ["note"] * has_notes
    has_intervals = correlations["pearson_low"].null_count() < correlations.height
    caption = "Correlation of each metric with accuracy over levels" + (
        ", with 95 % intervals." if has_intervals else "; no interval is known."
    )
    note = "Given the level: Pearson correlation of the residuals of a linear trend over levels."
    if "stable" in correlations["scope"]:
        note += (
            " Stable: levels with stable accuracy. Levels with collapsed accuracy alone can cause "
            "a correlation."
        )
    table = html.table(caption, header, rows, text_columns={1, 6})
    return table + html.note(f"{note} A dash: not defined.")


def pooled_table(pooled: pl.DataFrame) -> str:
    """One row for each metric: its correlation with accuracy within runs, and over all points."""
    rows: list[list[str | TableCell]] = [
        [
            TableCell(
                label(row["metric"]),
                ", ".join([*_explanation_label(row), order_name(row["strategy"])]),
            ),
            TableCell(str(row["run_count"]), f"{row['point_count']} points"),
            TableCell(
                number(row["repeated_measures"]),
                interval(row["repeated_measures_low"], row["repeated_measures_high"]),
            ),
            TableCell(number(row["pooled_pearson"]), kind="visible" if row["is_simpson"] else ""),
            "opposite signs" if row["is_simpson"] else "",
        ]
        for row in pooled.iter_rows(named=True)
    ]
    header = ["metric", "runs", "within runs", "all points", "warning"]
    caption = "Correlation of each metric with accuracy over all levels of several runs."
    note = (
        "Within runs: repeated-measures correlation, each run with its own mean, and its 95 % "
        "interval as if levels were independent. All points: Pearson, ignoring the runs."
    )
    return html.table(caption, header, rows, text_columns={4}) + html.note(note)


def cost_table(costs: pl.DataFrame) -> str:
    """One row for each level: its memory, and its speed relative to the unpruned model."""
    profile = costs.row(0, named=True)
    rows: list[list[str | TableCell]] = [
        [
            str(row["level"]),
            number(row["parameter_count"] / 1e6, 1),
            _of_unpruned(row["weight_bytes"] / 1e6, row["weight_share"]),
            _of_unpruned(row["kv_bytes_per_token"] / 1e3, row["kv_share"]),
            number(None)
            if row["peak_bytes"] is None
            else _of_unpruned(row["peak_bytes"] / 1e6, row["memory_share"]),
            *(
                TableCell(
                    count(round(row[f"{phase}_tokens_per_second"])),
                    f"{number(row[f'{phase}_speedup'])} x, "
                    f"{interval(row[f'{phase}_speedup_low'], row[f'{phase}_speedup_high'])}",
                )
                for phase in ("prefill", "decode")
            ),
        ]
        for row in costs.iter_rows(named=True)
    ]
    header = ["level", "parameters, M", "weights, MB", "KV cache of a token, kB", "peak, MB"]
    header += ["prefill, tokens/s", "decoding, tokens/s"]
    caption = (
        f"The costs of a level on {profile['device']}, in {profile['dtype']}, measured without the "
        "removed layers."
    )
    note = (
        f"{profile['batch']} x {profile['prompt_tokens']} prompt tokens, then "
        f"{profile['new_tokens']} new tokens. Speed is the median of {profile['repeats']} repeats. "
        "Beside it: the ratio to level 0 of the same repeat, with its smallest and largest value."
    )
    return html.table(caption, header, rows) + html.note(note)


def _of_unpruned(value: float, share: float | None) -> TableCell:
    return TableCell(number(value, 1), "" if share is None else percent(share))


def metric_label(row: Row) -> str:
    """A metric with its method, operator and variant, if they are known."""
    explanation = _explanation_label(row)
    return label(row["metric"]) + (f" ({', '.join(explanation)})" if explanation else "")


def _explanation_label(row: Row) -> list[str]:
    return [row[name] for name in ("method", "operator", "variant") if row[name]]


def _word(row: Row) -> str:
    if row["verdict"] is None:
        return ""
    if row["metric"] == "accuracy":
        return ACCURACY_WORDS[row["verdict"]]
    return VERDICT_LABELS[row["verdict"]].word


def _verdict_cell(row: Row | None) -> str | TableCell:
    if row is None:
        return number(None)
    if row["level"] == 0:
        return number(row["value"], 3)
    numbers = f"{number(row['value'], 3)} ({signed(row['delta'], 3)})"
    if row["verdict"] is None:
        return numbers
    return TableCell(
        _word(row), numbers, VERDICT_LABELS[row["verdict"]].word, "; ".join(_verdict_details(row))
    )


def _verdict_details(row: Row) -> list[str]:
    details = [f"change {signed(row['delta'], 3)}"]
    if row["delta_low"] is not None:
        details[0] += f", 95 % interval {interval(row['delta_low'], row['delta_high'], 3)}"
    details.append(f"n = {count(row['n'])}")
    if row["p_adjusted"] is not None:
        details.append(f"adjusted p {_p(row['p_adjusted'])}")
    if row["smallest_detectable"] is not None:
        details.append(
            f"a change below {number(row['smallest_detectable'], 3)} could have been missed"
        )
    return [*details, *([row["note"]] if row["note"] else [])]


def _legend(known: pl.DataFrame, names: LevelNames) -> str:
    verdicts = known.filter(pl.col("metric") != "accuracy")["verdict"].unique().to_list()
    items = "".join(
        f'<li><span class="{entry.word}">{entry.word}</span> '
        f"{names.in_baseline_words(entry.meaning)}</li>"
        for verdict, entry in VERDICT_LABELS.items()
        if verdict in verdicts
    )
    return f'<ul class="legend">{items}</ul>' if items else ""


def _numbers(known: pl.DataFrame, present: Sequence[str], names: LevelNames) -> str:
    header = [names.kind, "metric", "n", "value", "95 % interval", "change", "95 % interval"]
    header += ["adjusted p", "could be missed", "verdict", "note"]
    shown = known.filter(pl.col("metric").is_in(present)).sort(
        "level", pl.col("metric").cast(pl.Enum(present))
    )
    rows = [
        [
            names.short(row["level"]),
            label(row["metric"]),
            count(row["n"]),
            number(row["value"], 3),
            interval(row["ci_low"], row["ci_high"], 3),
            signed(row["delta"], 3) if row["level"] else "",
            interval(row["delta_low"], row["delta_high"], 3),
            "" if row["p_adjusted"] is None else _p(row["p_adjusted"]),
            "" if row["smallest_detectable"] is None else number(row["smallest_detectable"], 3),
            _word(row),
            row["note"] or "",
        ]
        for row in shown.iter_rows(named=True)
    ]
    note = (
        "p is corrected for many tests over all runs shown here. The test detects a change below "
        "'could be missed' with a chance of less than 80 %."
    )
    table = html.table("The numbers behind the verdicts.", header, rows, text_columns={1, 9, 10})
    return html.details("n, intervals and adjusted p of each verdict", html.note(note) + table)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else number(value, 3)
