"""The text of a recommended level: how it changed, or the commands that measure it."""

from collections.abc import Sequence

from pydantic import Field

from prunelake.command_line import text_command
from prunelake.identity import run_kind, stored_spec
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.spec import FrozenValue

SHOWN_METRICS = ("perplexity", "repetition")


class TextChange(FrozenValue):
    """A metric of texts at the recommended level of a run, beside level 0."""

    task: str
    run_id: str
    metric: str
    unpruned_value: float | None
    value: float | None
    delta: float | None
    delta_low: float | None = Field(description="The 95 % interval of delta; null if unknown.")
    delta_high: float | None
    n: int | None = Field(description="The number of texts at both levels.")


class TextEvidence(FrozenValue):
    """The texts behind an answer; both are empty without a recommended level."""

    changes: tuple[TextChange, ...] = ()
    commands: tuple[str, ...] = Field(
        default=(), description="The commands that measure the texts of runs without texts."
    )


def text_evidence(
    connection: Connection, run_ids: Sequence[str], level: int, label: str | None
) -> TextEvidence:
    """The texts of these runs at a level, or of the candidate with this label."""
    rows = BoundQuery(
        """
        select task, run_id, metric, unpruned_value, paired_value, delta, delta_low, delta_high,
            paired_n
        from headline_metrics
        where
            list_contains($run_ids, run_id)
            and list_contains($metrics, metric)
            and if($label is null, level = $level, label = $label)
            and value is not null
        order by task, metric
        """,
        run_ids=list(run_ids),
        metrics=list(SHOWN_METRICS),
        level=level,
        label=label,
    ).records(connection)
    changes = tuple(
        TextChange(**{"value": row.pop("paired_value"), "n": row.pop("paired_n"), **row})
        for row in map(dict, rows)
    )
    measured = {change.run_id for change in changes}
    runs = BoundQuery(
        "select run_id, spec, identity, example_count from runs "
        "where list_contains($run_ids, run_id) order by task",
        run_ids=[run_id for run_id in run_ids if run_id not in measured],
    ).records(connection)
    commands = [
        text_command(stored_spec(run), run["example_count"])
        for run in runs
        if run_kind(run["identity"]) != "import"
    ]
    return TextEvidence(changes=changes, commands=tuple(commands))
