"""The rows of `metrics`: each metric at each level, with its intervals and its test."""

from collections.abc import Mapping, Sequence

import numpy as np

from prunelake.analysis import statistics
from prunelake.analysis.bootstrap import BootstrappedMetric, undefined_reason
from prunelake.analysis.example_scores import ExampleScores, MetricKey
from prunelake.analysis.looks import RunLooks
from prunelake.analysis.sequential import LookTimes
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.metrics import FLIP_RATES, METRIC_DEFINITIONS, value_range
from prunelake.schema.table import METRIC_KEY, TableRow


def metric_rows(
    scores: ExampleScores,
    by_level: Sequence[Mapping[MetricKey, BootstrappedMetric]],
    looks: RunLooks,
) -> list[TableRow]:
    """The rows of `metrics` at the last of these looks."""
    return [
        _metric_row(
            *(level, key, metric),
            _discordant_counts(scores, index, key),
            _lacking_reason(scores, index, key),
            looks.times(level, is_explained=key[1] != ""),
        )
        for index, level in enumerate(scores.levels)
        for key, metric in by_level[index].items()
    ]


def empty_metric_row(level: int, key: MetricKey) -> TableRow:
    """A row of `metrics` that has no values yet."""
    definition = METRIC_DEFINITIONS[key[0]]
    return dict.fromkeys(ANALYSIS_TABLES["metrics"].schema) | {
        "level": level,
        **dict(zip(METRIC_KEY, key, strict=True)),
        "higher_is_better": definition.higher_is_better,
        "is_tested": definition.is_tested and key[1] != "random",
    }


def _metric_row(
    level: int,
    key: MetricKey,
    metric: BootstrappedMetric,
    discordant: tuple[int, int] | None,
    lacking: str | None,
    looks: LookTimes,
) -> TableRow:
    ci_low, ci_high = metric.interval(*value_range(key[0], key[3]))
    se = metric.estimate.se
    row = empty_metric_row(level, key) | {
        "value": metric.value,
        "n": metric.n,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "paired_n": metric.paired_n,
        "paired_value": metric.paired_value,
        "unpruned_value": metric.baseline_value,
        "delta": metric.paired_value - metric.baseline_value,
    }
    if lacking is not None:
        return row | {"paired_n": None, "note": lacking}
    if level == 0:
        return row | {"note": undefined_reason(key[0], metric.value, metric.n, se)}
    if looks.is_sequential:
        row |= {"look_count": len(looks.times), "look_factor": looks.factor}
    if key[0] in FLIP_RATES and metric.n:
        return row | _exact_intervals(metric, looks) | {"note": _untested_reason(row)}
    delta = metric.difference_at(looks)
    row |= {"delta_se": delta.se, "delta_low": delta.low, "delta_high": delta.high}
    row["note"] = (
        undefined_reason(key[0], metric.value, metric.n, se)
        or _untested_reason(row)
        or undefined_reason(key[0], delta.value, metric.paired_n, delta.se)
    )
    if not row["is_tested"]:
        return row
    if discordant is not None and metric.paired_n:
        equivalence = statistics.tango_interval(
            *discordant, metric.paired_n, looks.equivalence_confidence
        )
        row["p_value"] = looks.p_value(statistics.mcnemar_p_value(*discordant))
    else:
        equivalence = delta.equivalence_low, delta.equivalence_high
        row["p_value"] = delta.p_value
    return row | {"equivalence_low": equivalence[0], "equivalence_high": equivalence[1]}


def _exact_intervals(metric: BootstrappedMetric, looks: LookTimes) -> TableRow:
    """The columns of a share of examples. It is 0 at level 0, so its value equals its difference.

    An exact interval has a width even where no example changed.
    """
    count = round(metric.value * metric.n)
    ci_low, ci_high = statistics.exact_interval(count, metric.n, statistics.CONFIDENCE_LEVEL)
    low, high = statistics.exact_interval(count, metric.n, looks.confidence)
    within = statistics.exact_interval(count, metric.n, looks.equivalence_confidence)
    return {
        **{"ci_low": ci_low, "ci_high": ci_high, "delta_low": low, "delta_high": high},
        "delta_se": metric.difference.se,
        "equivalence_low": within[0],
        "equivalence_high": within[1],
    }


def _discordant_counts(scores: ExampleScores, index: int, key: MetricKey) -> tuple[int, int] | None:
    """The number of examples that are right only at level 0, and only at this level.

    None for a metric that does not count right examples.
    """
    if key[0] not in ("accuracy", "accuracy_norm"):
        return None
    column = scores.values[:, :, scores.metric_keys.index(key)]
    difference = column[index] - column[scores.levels.index(0)]
    return int((difference < 0).sum()), int((difference > 0).sum())


def _lacking_reason(scores: ExampleScores, index: int, key: MetricKey) -> str | None:
    """The reason why a metric cannot be computed or compared: the import had predictions only."""
    needs = METRIC_DEFINITIONS[key[0]].needs
    baseline = scores.levels.index(0)
    if needs is None or np.isnan(scores.correct[[index, baseline]]).all(axis=1).any():
        return None
    for place, of_level in ((index, ""), (baseline, " of level 0")):
        values = scores.confidence[place]
        if key in scores.metric_keys:
            values = scores.values[place, :, scores.metric_keys.index(key)]
        if np.isnan(values).all():
            return f"needs {needs}, which the predictions{of_level} lack"
    return None


def _untested_reason(row: TableRow) -> str | None:
    if row["is_tested"]:
        return None
    if row["method"] == "random":
        return "a random ranking: not tested"
    return "the metric itself compares with level 0: not tested"
