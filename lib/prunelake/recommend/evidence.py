"""The evidence of the lake for a recommendation: the runs of a model, and their checks."""

from collections.abc import Sequence

import polars as pl

from prunelake.errors import NotFound, NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.recommend.request import EXPLANATION_CRITERIA, Criterion, RecommendationRequest


def latest_runs(connection: Connection, model: str) -> pl.DataFrame:
    """The runs of the latest revision of a model: rows of `runs`, latest first.

    Raises:
        NotFound: no run of the model, or `model` is the last part of several references.
        NothingToShow: only values that were published without examples.
    """
    runs = BoundQuery("from runs order by created_at desc, run_id").rows(connection)
    runs_of_model = runs.filter(model=model)
    if runs_of_model.is_empty():
        runs_of_model = runs.filter(model_name=model)
    models = sorted(set(runs_of_model["model"]))
    if not models:
        known = sorted(set(runs["model"]))
        remedy = f"the lake has {', '.join(known[:9])}" if known else "sweep or import it first"
        raise NotFound(f"no run of model {model!r}; {remedy}", known)
    if len(models) > 1:
        raise NotFound(f"model {model!r} is ambiguous; choose {' or '.join(models)}", models)
    with_examples = runs_of_model.filter(pl.col("example_count") > 0)
    if with_examples.is_empty():
        raise NothingToShow(
            f"{models[0]} has no examples in the lake, only published values; without examples no "
            "level can be shown to be safe"
        )
    return with_examples.filter(revision=with_examples["revision"][0])


def with_other_levels(runs: pl.DataFrame) -> pl.DataFrame:
    """The rows of `runs` with a level besides level 0; all rows if there are none.

    A comparison leaves a sweep of level 0 alone for each of its models.
    """
    deeper = runs.filter(pl.col("levels").list.max() > 0)
    return runs if deeper.is_empty() else deeper


def representative_runs(
    connection: Connection, runs: pl.DataFrame, criteria: Sequence[Criterion]
) -> pl.DataFrame:
    """One of these runs for each removal order, number format and task; and for each candidate.

    Comparisons give a row for each candidate, with its label, number format and size in the columns
    `label`, `candidate_dtype`, `weight_bytes` and `weight_share` (of the baseline's weights), which
    are null for removal orders. The size is null where it is unknown. The run with the most
    explained examples counts if a criterion needs explanations, then the run with the most
    examples, then the latest. The choice never depends on a run's results.
    """
    needs_explanations = bool({*criteria} & {*EXPLANATION_CRITERIA})
    explained = BoundQuery(
        """
        select run_id, max(n) as explained_count
        from metrics
        where metric = 'comprehensiveness'
        group by run_id
        """
    ).rows(connection)
    candidates = BoundQuery(
        """
        select
            named.run_id,
            named.label,
            named.dtype as candidate_dtype,
            named.weight_bytes,
            named.weight_bytes / baseline.weight_bytes as weight_share
        from levels as named
        inner join levels as baseline on named.run_id = baseline.run_id and baseline.level = 0
        where named.kind = 'candidate' and named.level > 0
        order by named.run_id, named.level
        """
    ).rows(connection)
    return (
        runs.join(candidates, on="run_id", how="left", maintain_order="left_right")
        .join(explained, on="run_id", how="left", maintain_order="left")
        .sort(
            *([pl.col("explained_count").fill_null(0)] if needs_explanations else []),
            "example_count",
            "created_at",
            descending=True,
            nulls_last=True,
            maintain_order=True,
        )
        .unique(
            ["strategy", "dtype", "removal_order", "task", "label"],
            keep="first",
            maintain_order=True,
        )
        .sort("strategy", "dtype", "task", "run_id", maintain_order=True)
    )


def criteria_checks(
    connection: Connection, request: RecommendationRequest, run_ids: Sequence[str]
) -> pl.DataFrame:
    """The rows of `criteria` of these runs, with the margins and metrics of the request.

    Raises:
        NotFound: the runs lack the calibrator of the request.
    """
    _require_calibrator(connection, request.calibrator, run_ids)
    return BoundQuery(
        """
        from criteria_at(
            accuracy_margin := $accuracy,
            faithfulness_margin := $faithfulness,
            calibration_margin := $calibration,
            calibration_metric := $metric,
            recalibrated_by := $calibrator,
            run_ids := $run_ids,
            criteria := $criteria
        )
        order by run_id, level, criterion
        """,
        **request.margins.model_dump(),
        metric=request.calibration.value,
        calibrator=request.calibrator,
        run_ids=run_ids,
        criteria=[criterion.value for criterion in request.criteria],
    ).rows(connection)


def _require_calibrator(connection: Connection, calibrator: str, run_ids: Sequence[str]) -> None:
    fitted = BoundQuery(
        "select distinct calibrator from recalibration where list_contains($run_ids, run_id)",
        run_ids=run_ids,
    )
    known = sorted(fitted.rows(connection)["calibrator"])
    if known and calibrator not in known:
        raise NotFound(f"no calibrator {calibrator!r}; there are {', '.join(known)}", known)
