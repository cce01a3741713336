"""Queries for charts of one run, one function for each chart."""

from prunelake.lake.sql.bound_query import BoundQuery


def layer_importance(run_id: str) -> BoundQuery:
    """layer: importance and rank (rank 0 is removed first), from the input on."""
    return BoundQuery(
        "select layer, importance, rank from layers where run_id = $run_id order by layer",
        run_id=run_id,
    )


def accuracy_path(run_id: str, metric: str) -> BoundQuery:
    """level: accuracy and a metric with their intervals, and their correlation over all levels.

    Levels without both values are left out. The correlation is the same in all rows.
    """
    return BoundQuery(
        """
        select
            accuracies.level,
            accuracies.value as accuracy,
            accuracies.ci_low as accuracy_low,
            accuracies.ci_high as accuracy_high,
            accuracies.n as accuracy_n,
            measured.value,
            measured.ci_low,
            measured.ci_high,
            measured.n,
            correlated.spearman,
            correlated.spearman_low,
            correlated.spearman_high,
            correlated.level_count,
            correlated.note
        from headline_metrics as accuracies
        inner join headline_metrics as measured
            on accuracies.run_id = measured.run_id and accuracies.level = measured.level
        left join headline_correlations as correlated
            on
                measured.run_id = correlated.run_id
                and measured.metric = correlated.metric
                and correlated.scope = 'all'
        where
            accuracies.run_id = $run_id
            and accuracies.metric = 'accuracy'
            and accuracies.value is not null
            and measured.metric = $metric
            and measured.value is not null
        order by accuracies.level
        """,
        run_id=run_id,
        metric=metric,
    )


def reliability(run_id: str, level: int) -> BoundQuery:
    """level x bin: mean confidence and accuracy, for the unpruned model and for a level."""
    return BoundQuery(
        """
        select
            level,
            bin_low,
            bin_high,
            n,
            mean_confidence,
            accuracy
        from reliability
        where run_id = $run_id and level in (0, $level)
        order by level, bin_low
        """,
        run_id=run_id,
        level=level,
    )


def recalibration(run_id: str, metric: str) -> BoundQuery:
    """level x calibrator: a metric before and after recalibration, with intervals.

    unpruned_value is the value of level 0 before recalibration; note explains a missing value after
    recalibration.
    """
    return BoundQuery(
        """
        select
            level,
            calibrator,
            before,
            before_low,
            before_high,
            value,
            ci_low,
            ci_high,
            unpruned_value,
            n,
            note
        from recalibration
        where run_id = $run_id and metric = $metric
        order by calibrator, level
        """,
        run_id=run_id,
        metric=metric,
    )


def overlap_matrix(run_id: str) -> BoundQuery:
    """level x other level: share of the top 10 tokens in common, by the method of the headline.

    The 95 % interval is known for pairs with level 0. seed_overlap is the share between two seeds
    at the same level; null with one seed.
    """
    return BoundQuery(
        """
        select
            overlap_matrix.method,
            overlap_matrix.level,
            overlap_matrix.other_level,
            overlap_matrix.overlap_10 as overlap,
            metrics.ci_low,
            metrics.ci_high,
            seed_agreement.overlap_10 as seed_overlap,
            overlap_matrix.n
        from overlap_matrix
        inner join headline_keys
            on
                overlap_matrix.run_id = headline_keys.run_id
                and overlap_matrix.method = headline_keys.method
                and headline_keys.metric = 'overlap_10'
        left join metrics
            on
                overlap_matrix.run_id = metrics.run_id
                and overlap_matrix.method = metrics.method
                and overlap_matrix.level = metrics.level
                and overlap_matrix.other_level = 0
                and metrics.metric = 'overlap_10'
        left join seed_agreement
            on
                overlap_matrix.run_id = seed_agreement.run_id
                and overlap_matrix.method = seed_agreement.method
                and overlap_matrix.level = seed_agreement.level
        where overlap_matrix.run_id = $run_id
        order by overlap_matrix.level, overlap_matrix.other_level
        """,
        run_id=run_id,
    )


def flips(run_id: str) -> BoundQuery:
    """level: the shares of predictions that differ from level 0; flip_rate with its interval."""
    return BoundQuery(
        """
        select
            flips.level,
            flips.harmful_rate,
            flips.beneficial_rate,
            flips.neutral_rate,
            flips.flip_rate,
            metrics.ci_low,
            metrics.ci_high,
            flips.n
        from flips
        left join metrics
            on
                flips.run_id = metrics.run_id
                and flips.level = metrics.level
                and metrics.metric = 'flip_rate'
        where flips.run_id = $run_id
        order by flips.level
        """,
        run_id=run_id,
    )


def efficiency(run_id: str) -> BoundQuery:
    """level: costs and savings on the device that was profiled last, and the profile's settings.

    The low and high of a speed-up are the smallest and the largest value of the repeats.
    """
    return BoundQuery(
        """
        select
            efficiency.level,
            efficiency.device,
            efficiency.dtype,
            efficiency.parameter_count,
            efficiency.weight_bytes,
            efficiency.kv_bytes_per_token,
            efficiency.peak_bytes,
            efficiency.prefill_tokens_per_second,
            efficiency.decode_tokens_per_second,
            efficiency.prefill_speedup,
            efficiency.prefill_speedup_low,
            efficiency.prefill_speedup_high,
            efficiency.decode_speedup,
            efficiency.decode_speedup_low,
            efficiency.decode_speedup_high,
            efficiency.weight_share,
            efficiency.kv_share,
            efficiency.memory_share,
            profiles.batch,
            profiles.prompt_tokens,
            profiles.new_tokens,
            profiles.repeats
        from efficiency
        inner join profiles on efficiency.profile_id = profiles.profile_id
        where efficiency.run_id = $run_id
        qualify rank() over (order by efficiency.profiled_at desc, efficiency.profile_id) = 1
        order by efficiency.level
        """,
        run_id=run_id,
    )
