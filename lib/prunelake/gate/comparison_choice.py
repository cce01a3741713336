"""Find the comparisons in the lake of the models that a gate names."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.comparison_spec import ModelVariant
from prunelake.errors import InvalidSpec
from prunelake.gate.gate_file import Gate
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.spec import task_name

Level = Mapping[str, Any]


def matching_comparisons(connection: Connection, gate: Gate) -> pl.DataFrame:
    """The comparisons of the gate's baseline with its candidates: rows of `runs`, latest first.

    A model is found by its label and, unless the gate gives nothing but a label, by its reference.
    If the lake has several revisions, the revisions of the latest comparison count.

    Raises:
        InvalidSpec: no such comparison, or comparisons of several models for a task.
    """
    assert gate.baseline is not None
    wanted = (gate.baseline, *gate.candidates)
    comparisons = _comparisons(connection)
    revisions: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {}
    chosen = []
    for run_id, levels in comparisons.items():
        found = _matching_levels(levels, wanted)
        if found:
            references = tuple(level["model"] for level in found)
            own = tuple(level["revision"] for level in found)
            of_task = revisions.setdefault(levels[0]["task"], {})
            if of_task.setdefault(references, own) == own:  # the latest comparison comes first
                chosen.append(run_id)
    if not chosen:
        raise InvalidSpec(
            f"no comparison of {wanted[0].name} with {', '.join(gate.candidate_names)} in the "
            f"lake; it has {_described(comparisons)}; with `rows` the gate evaluates them"
        )
    for task, models in revisions.items():
        if len(models) > 1 and task in map(task_name, gate.all_tasks):
            listed = "; ".join(", ".join(dict.fromkeys(references)) for references in models)
            raise InvalidSpec(
                f"task {task!r}: several comparisons have these labels, of {listed}; write the "
                "baseline or a candidate as LABEL=REFERENCE, or give runs"
            )
    runs = BoundQuery("from runs order by created_at desc, run_id").rows(connection)
    return runs.filter(pl.col("run_id").is_in(chosen))


def _comparisons(connection: Connection) -> dict[str, list[Level]]:
    """The levels of each comparison by run id, the latest comparison first."""
    rows = BoundQuery(
        """
        select
            levels.run_id,
            levels.level,
            levels.label,
            levels.model,
            levels.revision,
            runs.task
        from levels
        inner join runs on levels.run_id = runs.run_id
        where levels.kind = 'candidate'
        order by runs.created_at desc, levels.run_id, levels.level
        """
    ).records(connection)
    by_run: dict[str, list[Level]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    return by_run


def _matching_levels(levels: Sequence[Level], wanted: Sequence[ModelVariant]) -> list[Level]:
    """The level of each wanted model, the baseline first; empty if one is missing."""
    baseline, *candidates = levels
    by_label = {level["label"]: level for level in candidates}
    found = []
    for number, variant in enumerate(wanted):
        level = by_label.get(variant.name) if number else baseline
        if level is None or level["label"] != variant.name:
            return []
        if variant.model not in (variant.name, level["model"]):
            return []
        found.append(level)
    return found


def _described(comparisons: Mapping[str, Sequence[Level]]) -> str:
    labels = [[level["label"] for level in levels] for levels in comparisons.values()]
    texts = dict.fromkeys(f"{base} with {', '.join(others)}" for base, *others in labels)
    return "; ".join([*texts][:9]) or "none"
