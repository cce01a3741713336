"""Queries for single examples."""

from dataclasses import dataclass
from typing import Any

from prunelake.errors import NotFound
from prunelake.lake.sql.bound_query import BoundQuery

from .snapshots.snapshot import Snapshot


def notable_examples(run_id: str, level: int, limit: int) -> BoundQuery:
    """The examples of a run that differ most at a level from level 0.

    Explained examples come first, then flips, then the largest changes of confidence.
    """
    return BoundQuery(
        """
        with explained as (
            select distinct example_id
            from attributions
            where run_id = $run_id and level = $level and method != 'random' and problem is null
        ),

        ranked as (
            select
                examples.example_id,
                examples.prompt,
                pairs.gold,
                pairs.unpruned_prediction,
                pairs.prediction,
                pairs.unpruned_confidence,
                pairs.confidence,
                pairs.flip_kind,
                explained.example_id is not null as is_explained,
                row_number() over (
                    order by
                        explained.example_id is not null desc,
                        coalesce(
                            array_position(['harmful', 'beneficial', 'neutral'], pairs.flip_kind), 4
                        ),
                        abs(pairs.confidence - pairs.unpruned_confidence) desc,
                        examples.position
                ) as rank
            from paired_predictions as pairs
            inner join examples
                on pairs.run_id = examples.run_id and pairs.example_id = examples.example_id
            left join explained on pairs.example_id = explained.example_id
            where pairs.run_id = $run_id and pairs.level = $level
        )

        select * exclude (rank)
        from ranked
        where rank <= $limit
        order by rank
        """,
        run_id=run_id,
        level=level,
        limit=limit,
    )


def example(run_id: str, example_id: str, level: int = 0) -> BoundQuery:
    """One example: prompt, options, gold, the methods that explain it, the headline's method.

    shares_tokens says whether the prompts have the same tokens at `level` as at level 0.
    """
    return BoundQuery(
        """
        with explained as (
            select list(distinct method order by method) as methods
            from attributions
            where run_id = $run_id and example_id = $example_id and method != 'random'
        )

        select
            examples.prompt,
            examples.options,
            examples.gold,
            coalesce(explained.methods, []) as methods,
            (select method from headlines where run_id = $run_id) as headline,
            (
                select shares_tokens from levels where run_id = $run_id and level = $level
            ) as shares_tokens
        from examples
        cross join explained
        where examples.run_id = $run_id and examples.example_id = $example_id
        """,
        run_id=run_id,
        example_id=example_id,
        level=level,
    )


def predictions(run_id: str, example_id: str, level: int) -> BoundQuery:
    """The predictions at level 0 and at a level for an example, with the labels of the levels."""
    return BoundQuery(
        """
        select
            predictions.level,
            levels.label,
            predictions.prediction,
            predictions.is_correct,
            predictions.confidence,
            predictions.probabilities
        from predictions
        inner join levels
            on predictions.run_id = levels.run_id and predictions.level = levels.level
        where
            predictions.run_id = $run_id
            and predictions.example_id = $example_id
            and predictions.level in (0, $level)
        order by predictions.level
        """,
        run_id=run_id,
        example_id=example_id,
        level=level,
    )


def token_scores(run_id: str, example_id: str, level: int, method: str) -> BoundQuery:
    """Every prompt token of an example with its score at level 0 and at a level, seeds averaged.

    A score is the change in the log-likelihood (nats) of the option that the model predicts at that
    level; null where the level was not explained, or has other tokens.
    """
    return BoundQuery(
        """
        with scored as (
            select
                attributions.level,
                unnest(attributions.scores) as score,
                generate_subscripts(attributions.scores, 1) as position
            from attributions
            inner join levels
                on attributions.run_id = levels.run_id and attributions.level = levels.level
            where
                attributions.run_id = $run_id
                and attributions.example_id = $example_id
                and attributions.method = $method
                and attributions.level in (0, $level)
                and attributions.problem is null
                and levels.shares_tokens
        ),

        tokens as (
            select
                unnest(prompt_tokens) as token,
                generate_subscripts(prompt_tokens, 1) as position
            from examples
            where run_id = $run_id and example_id = $example_id
        )

        select
            tokens.position,
            tokens.token,
            avg(scored.score) filter (where scored.level = 0) as unpruned,
            avg(scored.score) filter (where scored.level = $level) as pruned
        from tokens
        left join scored on tokens.position = scored.position
        group by tokens.position, tokens.token
        order by tokens.position
        """,
        run_id=run_id,
        example_id=example_id,
        level=level,
        method=method,
    )


@dataclass(frozen=True)
class ExampleEvidence:
    """One example, with the predictions and token scores at level 0 and at a level.

    `example` has prompt, options, gold, methods, headline and shares_tokens. `predictions` has a
    row by level. `tokens` has a row for each prompt token; it is empty if `method` is None.
    """

    example: dict[str, Any]
    method: str | None
    predictions: dict[int, dict[str, Any]]
    tokens: list[dict[str, Any]]


def load_notable_examples(
    snapshot: Snapshot, run_id: str, level: int, limit: int
) -> list[dict[str, Any]]:
    """The rows of `notable_examples`."""
    return snapshot.rows(notable_examples(run_id, level, limit)).fill_nan(None).to_dicts()


def load_example(
    snapshot: Snapshot, run_id: str, example_id: str, level: int, method: str | None = None
) -> ExampleEvidence:
    """One example at level 0 and at `level`, explained by `method` or by the headline's method.

    If the headline's method does not explain the example, the first method that does is used.

    Raises:
        NotFound: the run lacks the example, or the method does not explain it.
    """
    with snapshot.cursor() as connection:
        examples = example(run_id, example_id, level).rows(connection).to_dicts()
        if not examples:
            raise NotFound(f"run {run_id} has no example {example_id!r}; GET /examples/{run_id}")
        methods, headline = examples[0]["methods"], examples[0]["headline"]
        if method is not None and method not in methods:
            raise NotFound(f"example {example_id!r} is not explained by {method!r}", methods)
        if method is None:
            method = headline if headline in methods else next(iter(methods), None)
        answers = predictions(run_id, example_id, level).rows(connection)
        tokens: list[dict[str, Any]] = []
        if method is not None:
            scores = token_scores(run_id, example_id, level, method).rows(connection)
            tokens = scores.fill_nan(None).to_dicts()
    by_level = {row["level"]: row for row in answers.fill_nan(None).to_dicts()}
    return ExampleEvidence(examples[0], method, by_level, tokens)
