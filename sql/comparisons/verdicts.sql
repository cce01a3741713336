-- The view verdicts with other margins, another false discovery rate, or for some runs only.
create macro verdicts_at(
    accuracy_margin := null, metric_margin := null, false_discovery_rate := 0.05, run_ids := null
) as table
    with margins as (
        select
            metric,
            coalesce(if(metric = 'accuracy', accuracy_margin, metric_margin), margin) as margin
        from metric_definitions
    ),

    cells as (
        select
            *,
            row_number() over (order by p_value) as p_rank,
            count(p_value) over () as test_count
        from deltas
        where
            level > 0
            and is_tested
            and higher_is_better is not null
            and (run_ids is null or list_contains(run_ids, run_id))
    ),

    adjusted as (
        select
            * exclude (p_rank, test_count),
            -- Benjamini and Hochberg (1995), over all metrics of the requested runs.
            min(
                case when p_value is not null then least(1, p_value * test_count / p_rank) end
            ) over (
                order by p_rank desc rows unbounded preceding
            ) as p_adjusted
        from cells
    ),

    with_margin as (
        select
            adjusted.*,
            margins.margin
        from adjusted
        left join margins on adjusted.metric = margins.metric
    ),

    compared as (
        select
            *,
            coalesce(p_adjusted <= false_discovery_rate, false) as is_changed,
            coalesce(
                equivalence_low > -margin and equivalence_high < margin, false
            ) as is_equivalent
        from with_margin
    ),

    accuracies as (
        select
            run_id,
            level,
            delta,
            equivalence_low,
            equivalence_high,
            case when n is not null then is_equivalent end as is_stable,
            is_changed and delta < 0 as is_fallen
        from compared
        where metric = 'accuracy'
    ),

    judged as (
        select
            compared.run_id,
            compared.model,
            compared.strategy,
            compared.task,
            compared.level,
            compared.metric,
            compared.method,
            compared.operator,
            compared.variant,
            accuracies.delta as accuracy_delta,
            accuracies.equivalence_low as accuracy_low,
            accuracies.equivalence_high as accuracy_high,
            accuracies.is_stable,
            accuracies.is_fallen,
            compared.delta,
            compared.delta_low,
            compared.delta_high,
            compared.delta_se,
            compared.equivalence_low,
            compared.equivalence_high,
            compared.margin,
            compared.p_value,
            compared.p_adjusted,
            compared.is_changed,
            compared.is_equivalent,
            compared.is_changed and compared.is_worse and not compared.is_equivalent
                as is_shown_worse,
            compared.is_changed and not compared.is_worse as is_shown_better,
            compared.n,
            compared.note
        from compared
        left join accuracies
            on compared.run_id = accuracies.run_id and compared.level = accuracies.level
    )

    select
        run_id,
        model,
        strategy,
        task,
        level,
        metric,
        method,
        operator,
        variant,
        case
            when n is null then null
            when metric = 'accuracy' and is_equivalent then 'equivalent'
            when is_shown_better then 'improved'
            when metric = 'accuracy' and is_fallen then 'visible degradation'
            when is_shown_worse and is_stable then 'hidden degradation'
            when is_shown_worse and is_fallen then 'visible degradation'
            when is_changed and is_equivalent then 'worse within margin'
            when is_equivalent then 'equivalent'
            else 'inconclusive'
        end as verdict,
        is_shown_worse,
        case
            when p_value is null then note
            when is_shown_worse and not is_stable and not is_fallen
                then 'worse, but accuracy is neither stable nor fallen'
            when not is_changed and not is_equivalent
                then 'a difference up to smallest_detectable could have been missed'
        end as reason,
        -- A single test at 5 % finds it with a probability of 80 %: the sum of the two normal
        -- quantiles.
        case when not is_changed then 2.8015852 * delta_se end as smallest_detectable,
        delta,
        delta_low,
        delta_high,
        equivalence_low,
        equivalence_high,
        margin,
        p_value,
        p_adjusted,
        accuracy_delta,
        accuracy_low,
        accuracy_high,
        is_stable as is_accuracy_stable,
        n
    from judged;

create view verdicts as
from verdicts_at();

comment on view verdicts is
'run x level above 0 x metric (x method, operator, variant) that can be tested. A metric has
changed if p_adjusted is at most 0.05, after correction for many tests (false discovery rate over
all rows). It lies within its margin (that of metric_definitions) if its 90 % interval against
level 0 (equivalence_low, equivalence_high) does. is_shown_worse: it has changed for the worse and
is not shown to lie within its margin. Accuracy is stable if it lies within its margin
(accuracy_low, accuracy_high). verdict: hidden degradation (shown worse while accuracy is stable),
visible degradation (shown worse and accuracy fell), worse within margin (changed for the worse),
equivalent (not changed, within its margin; accuracy: stable), improved, or inconclusive with its
reason; null if nothing can be tested.';
