-- Like the view verdicts, but the caller may choose margins, the false discovery rate and runs.
create macro verdicts_at(
    accuracy_margin := null, metric_margin := null, false_discovery_rate := 0.05, run_ids := null
) as table
    with margins as (
        select
            metric,
            is_tested_at_margin,
            coalesce(
                case when metric = 'accuracy' then accuracy_margin else metric_margin end, margin
            ) as margin
        from metric_definitions
    ),

    testable as (
        select *
        from deltas
        where
            level > 0
            and is_tested
            and higher_is_better is not null
            and (run_ids is null or list_contains(run_ids, run_id))
    ),

    with_margin as (
        select
            testable.*,
            margins.margin,
            coalesce(margins.is_tested_at_margin, false) as is_tested_at_margin,
            -- Kept inside 0 and 1, where a probability and its complement have logarithms.
            least(greatest(margins.margin, 1e-12), 1 - 1e-12) as probability
        from testable
        left join margins on testable.metric = margins.metric
    ),

    -- Many rows have the same inputs, and the sum is slow.
    shares as (
        select distinct
            value,
            n,
            probability
        from with_margin
        where is_tested_at_margin
    ),

    exact_tests as (
        select
            *,
            -- Exact binomial test: the probability of at least as many changed examples, if each
            -- changes with the probability of the margin. The sum stops where all further terms
            -- together are below the last bit of the sum (Bernstein's inequality).
            list_sum(
                list_transform(
                    range(
                        round(value * n)::bigint,
                        least(
                            n + 1,
                            greatest(round(value * n), n * probability)
                            + 17 + sqrt(225 + 90 * n * probability * (1 - probability))
                        )::bigint
                    ),
                    lambda k: exp(
                        lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
                        + k * ln(probability) + (n - k) * ln(1 - probability)
                    )
                )
            ) as p_value
        from shares
    ),

    cells as (
        select
            with_margin.* exclude (p_value),
            case
                when with_margin.is_tested_at_margin
                    then least(1, coalesce(with_margin.look_factor, 1) * exact_tests.p_value)
                else with_margin.p_value
            end as p_value
        from with_margin
        left join exact_tests
            on
                with_margin.value = exact_tests.value
                and with_margin.n = exact_tests.n
                and with_margin.probability = exact_tests.probability
    ),

    ranked as (
        select
            p_value,
            sum(count(*)) over (order by p_value)::bigint as p_rank,
            sum(count(*)) over ()::bigint as test_count
        from cells
        where p_value is not null
        group by p_value
    ),

    adjusted_p_values as (
        select
            p_value,
            -- Benjamini and Hochberg (1995), over all metrics of the requested runs. Of equal
            -- p-values, the last rank decides.
            min(least(1, p_value * test_count / p_rank)) over (
                order by p_value desc rows unbounded preceding
            ) as p_adjusted
        from ranked
    ),

    adjusted as (
        select
            cells.*,
            adjusted_p_values.p_adjusted
        from cells
        left join adjusted_p_values on cells.p_value = adjusted_p_values.p_value
    ),

    compared as (
        select
            *,
            coalesce(p_adjusted <= false_discovery_rate, false) as is_changed,
            coalesce(
                equivalence_low > -margin and equivalence_high < margin, false
            ) as is_equivalent
        from adjusted
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
            compared.label,
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
            compared.is_tested_at_margin,
            compared.p_value,
            compared.p_adjusted,
            compared.is_changed,
            compared.is_equivalent,
            compared.is_changed and compared.is_worse and not compared.is_equivalent
                as is_shown_worse,
            compared.is_changed and not compared.is_worse as is_shown_better,
            compared.n,
            compared.look_count,
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
        label,
        metric,
        method,
        operator,
        variant,
        case
            when n is null or (n = 0 and method is not null) then null
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
            when n = 0 and method is not null then 'not explained at this level'
            when p_value is null and not is_equivalent then note
            when is_shown_worse and not is_stable and not is_fallen
                then 'worse, but accuracy is neither stable nor fallen'
            when not is_changed and not is_equivalent
                then 'a difference up to smallest_detectable could have been missed'
        end as reason,
        -- A single test at 5 % finds this difference with a probability of 80 %. The factors are
        -- sums of two normal quantiles, for a two-sided test of 0 or a one-sided test of the
        -- margin. The arcsine of the root of a share has about the same standard error for every
        -- share: 1 / (2 sqrt(n)).
        case
            when is_changed then null
            when is_tested_at_margin
                then sin(
                    least(asin(sqrt(least(margin, 1))) + 2.4864749 / (2 * sqrt(n)), pi() / 2)
                ) ** 2
            else 2.8015852 * delta_se
        end as smallest_detectable,
        -- The number of examples that decides, whatever the change is: the closed form of
        -- `examples_for_changes_between` in analysis/power.py. The half width of an interval and
        -- the standard error are proportional to 1 / sqrt(n). If n should have been enough, a few
        -- more examples rarely decide.
        case
            -- No example differs: the number of equal examples whose interval fits the margin.
            when delta = 0 and delta_se is null and p_value is null and not is_equivalent
                then
                    try_cast(
                        ceil(
                            ln(0.05)
                            / ln(1 - margin * (1 - 0.05 ** (1 / n)) / equivalence_high)
                        ) as bigint
                    )
            when not is_changed and not is_equivalent and not is_tested_at_margin
                then
                    try_cast(
                        ceil(
                            n * greatest(
                                1.5,
                                (
                                    (
                                        1.4553 * coalesce(delta_se, 0)
                                        + greatest(
                                            equivalence_high - delta, delta - equivalence_low
                                        )
                                    ) / margin
                                ) ** 2
                            )
                        ) as bigint
                    )
            -- As for smallest_detectable, if the measured share is the truth.
            when not is_changed and not is_equivalent and delta != margin
                then
                    try_cast(
                        ceil(
                            greatest(
                                1.5 * n,
                                (
                                    2.4864749 / 2
                                    / (asin(sqrt(least(margin, 1))) - asin(sqrt(delta)))
                                ) ** 2
                            )
                        ) as bigint
                    )
        end as n_needed,
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
        n,
        look_count is not null as is_sequential
    from judged;

create view verdicts as
from verdicts_at();

comment on view verdicts is
'run x level above 0 x metric (x method, operator, variant) that can be tested. A metric has changed
if p_adjusted is at most 0.05, after correction for many tests (false discovery rate over all rows).
It lies within its margin (see metric_definitions) if the 90 % interval of its difference from level
0 (equivalence_low, equivalence_high) does. is_shown_worse: it has changed for the worse and is not
shown to lie within its margin. Accuracy is stable if it lies within its margin (accuracy_low,
accuracy_high). A metric with is_tested_at_margin (flip_rate) has changed if it exceeds its margin:
its p_value comes from an exact binomial test of the margin. verdict: hidden degradation (shown
worse while accuracy is stable), visible degradation (shown worse and accuracy fell), worse within
margin (changed for the worse), equivalent (not changed, within its margin; accuracy: stable),
improved, or inconclusive with its reason; null if nothing can be tested. inconclusive with
is_shown_worse: the metric is worse, but accuracy is shown neither to be stable nor to have fallen;
tables and charts call it worse. n_needed: the number of examples that would show, with a
probability of 80 %, that the metric has changed or lies within its margin; for flip_rate if the
measured rate is the truth. is_sequential: the run looked at its examples several times, and its
intervals and p-values allow for these looks (view looks).';
