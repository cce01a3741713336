"""Questions about single examples: SQL over the lake's views; no HTTP, no drawing."""

from prunelake.lake.bound_query import BoundQuery


def notable_examples(run_id: str, level: int, limit: int) -> BoundQuery:
    """Examples of a run that show most at a level: explained, flipped, then confidence moved."""
    return BoundQuery(
        """
        with explained as (
            select distinct example_id
            from attributions
            where run_id = $run_id and level = $level and method != 'random' and problem is null
        )

        select
            examples.example_id,
            examples.prompt,
            pairs.gold,
            pairs.unpruned_prediction,
            pairs.prediction,
            pairs.unpruned_confidence,
            pairs.confidence,
            pairs.flip_kind,
            explained.example_id is not null as is_explained
        from paired_predictions as pairs
        inner join examples
            on pairs.run_id = examples.run_id and pairs.example_id = examples.example_id
        left join explained on pairs.example_id = explained.example_id
        where pairs.run_id = $run_id and pairs.level = $level
        order by
            is_explained desc,
            coalesce(array_position(['harmful', 'beneficial', 'neutral'], pairs.flip_kind), 4),
            abs(pairs.confidence - pairs.unpruned_confidence) desc,
            examples.position
        limit $limit
        """,
        run_id=run_id,
        level=level,
        limit=limit,
    )


def example(run_id: str, example_id: str) -> BoundQuery:
    """One example: prompt, options, gold, and the methods that explain it, the headline's first."""
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
            (select method from headlines where run_id = $run_id) as headline
        from examples
        cross join explained
        where examples.run_id = $run_id and examples.example_id = $example_id
        """,
        run_id=run_id,
        example_id=example_id,
    )


def predictions(run_id: str, example_id: str, level: int) -> BoundQuery:
    """The prediction for an example of the unpruned model and of a level."""
    return BoundQuery(
        """
        select
            level,
            prediction,
            is_correct,
            confidence,
            probabilities
        from predictions
        where run_id = $run_id and example_id = $example_id and level in (0, $level)
        order by level
        """,
        run_id=run_id,
        example_id=example_id,
        level=level,
    )


def token_scores(run_id: str, example_id: str, level: int, method: str) -> BoundQuery:
    """Every prompt token of an example with its score unpruned and at a level, seeds averaged.

    A score is what the token adds to the log-likelihood of `target`, the option that the model
    predicts at that level; null where the level was not explained.
    """
    return BoundQuery(
        """
        with scored as (
            select
                level,
                target,
                unnest(scores) as score,
                generate_subscripts(scores, 1) as position
            from attributions
            where
                run_id = $run_id
                and example_id = $example_id
                and method = $method
                and level in (0, $level)
                and problem is null
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
