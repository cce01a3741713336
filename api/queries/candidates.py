"""Query for the candidates of a comparison: their models, recovered accuracy and flips."""

from prunelake.lake.sql.bound_query import BoundQuery


def candidates(run_id: str) -> BoundQuery:
    """level: its label, model, format and size, its recovery with interval, flips and KL."""
    return BoundQuery(
        """
        select
            levels.level,
            levels.label,
            levels.model,
            levels.dtype,
            levels.strategy,
            len(levels.removed_layers) as removed_count,
            levels.weight_bytes,
            levels.shares_tokens,
            recovery.recovery,
            recovery.recovery_low,
            recovery.recovery_high,
            flips.flip_rate,
            flips.harmful_rate,
            flips.beneficial_rate,
            flips.neutral_rate,
            flips.mean_kl,
            flips.n
        from levels
        left join recovery on levels.run_id = recovery.run_id and levels.level = recovery.level
        left join flips on levels.run_id = flips.run_id and levels.level = flips.level
        where levels.run_id = $run_id
        order by levels.level
        """,
        run_id=run_id,
    )
