-- Like the view criteria, but the caller may choose margins, criteria, the metric of calibration,
-- the calibrator and runs.
create macro criteria_at(
    accuracy_margin := null,
    faithfulness_margin := null,
    calibration_margin := null,
    calibration_metric := 'ece',
    recalibrated_by := 'temperature',
    run_ids := null,
    criteria := null
) as table
    with asked_runs as (
        select
            run_id,
            model,
            strategy,
            task,
            unnest(levels) as level
        from runs
        where run_ids is null or list_contains(run_ids, run_id)
    ),

    run_levels as (
        select
            asked_runs.*,
            coalesce(named.label, asked_runs.level::varchar) as label,
            named.label is not null as is_candidate
        from asked_runs
        left join lake.levels as named
            on asked_runs.run_id = named.run_id and asked_runs.level = named.level
    ),

    calibrators as (
        select unnest([null, recalibrated_by]) as calibrator
    ),

    known_criteria as (
        select unnest(['accuracy', 'calibration', 'comprehensiveness', 'sufficiency']) as criterion
    ),

    asked_criteria as (
        select criterion
        from known_criteria
        where criteria is null or list_contains(criteria, criterion)
    ),

    asked as (
        select
            run_levels.*,
            calibrators.calibrator,
            asked_criteria.criterion
        from run_levels
        cross join calibrators
        cross join asked_criteria
        where run_levels.level > 0
    ),

    wanted as (
        select
            *,
            case when criterion = 'calibration' then calibration_metric else criterion end
                as metric,
            -- Recalibration changes the confidence only.
            case when criterion = 'calibration' then calibrator end as measured_with,
            case criterion
                when 'accuracy' then accuracy_margin
                when 'calibration' then calibration_margin
                else faithfulness_margin
            end::double as asked_margin
        from asked
    ),

    differences as (
        select *
        from deltas
        where
            metric in ('accuracy', calibration_metric, 'comprehensiveness', 'sufficiency')
            and (run_ids is null or list_contains(run_ids, run_id))
    ),

    headlined as (
        select
            found.*,
            null as calibrator
        from differences as found
        inner join headline_keys as keys
            on
                found.run_id = keys.run_id
                and found.metric = keys.metric
                and found.method is not distinct from keys.method
                and found.operator is not distinct from keys.operator
                and found.variant is not distinct from keys.variant
    ),

    measured as (
        select
            run_id,
            level,
            metric,
            calibrator,
            method,
            operator,
            variant,
            higher_is_better,
            unpruned_value,
            value,
            delta,
            delta_se,
            equivalence_low,
            equivalence_high,
            n,
            note
        from headlined
        union all by name
        select
            run_id,
            level,
            metric,
            calibrator,
            higher_is_better,
            unpruned_value,
            value,
            delta,
            delta_se,
            equivalence_low,
            equivalence_high,
            n,
            note
        from recalibration
        where
            metric = calibration_metric
            and calibrator = recalibrated_by
            and (run_ids is null or list_contains(run_ids, run_id))
    ),

    compared as (
        select
            wanted.*,
            coalesce(wanted.asked_margin, metric_definitions.margin) as margin,
            measured.method,
            measured.operator,
            measured.variant,
            measured.unpruned_value,
            measured.value,
            measured.delta,
            measured.delta_se,
            case when measured.higher_is_better then 0 - measured.delta else measured.delta end
                as loss,
            case
                when measured.higher_is_better then 0 - measured.equivalence_low
                else measured.equivalence_high
            end as loss_bound,
            measured.n,
            measured.note,
            wanted.criterion in ('comprehensiveness', 'sufficiency')
            and coalesce(measured.n, 0) = 0
            and measured.value is null as is_unexplained
        from wanted
        left join metric_definitions on wanted.metric = metric_definitions.metric
        left join measured
            on
                wanted.run_id = measured.run_id
                and wanted.level = measured.level
                and wanted.metric = measured.metric
                and wanted.measured_with is not distinct from measured.calibrator
    ),

    judged as (
        select
            *,
            coalesce(loss_bound < margin, false) as is_met,
            not bool_or(is_unexplained) over of_level as is_level_tested,
            bool_and(coalesce(loss_bound < margin, false)) over of_level as is_level_met
        from compared
        window of_level as (partition by run_id, calibrator, level)
    )

    select
        run_id,
        model,
        strategy,
        task,
        level,
        label,
        calibrator,
        criterion,
        metric,
        method,
        operator,
        variant,
        unpruned_value,
        value,
        delta,
        delta_se,
        loss,
        loss_bound,
        margin,
        is_met,
        n,
        -- The half width of an interval and the standard error are proportional to 1 / sqrt(n).
        -- 0.8416 is the 80 % quantile of the normal distribution.
        case
            -- No example differs: the number of equal examples whose interval fits the margin.
            when not is_met and delta = 0 and delta_se is null and criterion != 'accuracy'
                then
                    try_cast(
                        ceil(
                            ln(0.05) / ln(1 - margin * (1 - 0.05 ** (1 / n)) / loss_bound)
                        ) as bigint
                    )
            when not is_met and loss < margin
                then
                    try_cast(
                        ceil(
                            n
                            * (
                                (loss_bound - loss + 0.8416 * coalesce(delta_se, 0))
                                / (margin - loss)
                            ) ** 2
                        ) as bigint
                    )
        end as n_needed,
        is_level_tested,
        is_level_met,
        is_level_met
        and (
            is_candidate
            or bool_and(is_level_met or not is_level_tested) over (
                partition by run_id, calibrator
                order by level
                range between unbounded preceding and current row
            )
        ) as is_reached,
        case
            when loss_bound is null and (is_unexplained or value is null)
                then coalesce(case when not is_unexplained then note end, 'not measured')
            when loss_bound is null then note
        end as note
    from judged;

create view criteria as
from criteria_at();

comment on view criteria is
'run x level above 0 x calibrator x criterion. Whether a level is shown to be worse than the
unpruned model by less than a margin: without recalibration (calibrator null) and with its
confidence recalibrated by temperature. criterion: accuracy, calibration (ECE), comprehensiveness
and sufficiency (of headlines). loss: delta in the worse direction. loss_bound: the upper end of its
one-sided 95 % interval. is_met: loss_bound is below margin, which metric_definitions gives for the
metric. n_needed: the number of examples that would meet the criterion with a probability of 80 % if
loss is the truth. is_level_met: all criteria are met. is_reached: they are also met at every
shallower level with explanations; candidates of a comparison have no order, so each counts alone.';
