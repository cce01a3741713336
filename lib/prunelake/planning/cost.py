"""The cost of a sweep in forward tokens and seconds, before it runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunelake.evaluation.token_counts import explanation_token_counts, unpruned_prompt_count
from prunelake.identity import run_kind, sweep_spec
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.spec import Explanation, Unit

MAX_PRICED_RUNS = 20
"""The latest runs are enough to estimate the cost of a token."""

ASSUMED_LEVEL_COST = 0.4
"""The cost of a further level in passes of level 0: 16 levels of SmolLM2 take 6.9 passes."""

BYTES_PER_TOKEN = 4.5
"""Bytes for each token of an English option; the lake has the options' bytes, not their tokens."""


@dataclass(frozen=True)
class Prompts:
    """The mean length of a task's prompts, and of a prompt with all its options, in tokens."""

    prompt_tokens: float
    length: float


ASSUMED_PROMPTS = Prompts(25.0, 45.0)
"""Short questions, as in arc_easy."""


@dataclass(frozen=True)
class SweepPrice:
    """The price of a sweep's work, measured in other sweeps of the same model or assumed.

    `token_ratio` is the number of forward tokens for each token of `counted_tokens`. `device` is
    None if no run has shown the speed.
    """

    prompts: Prompts = ASSUMED_PROMPTS
    token_ratio: float = 1.0
    tokens_per_second: float = 1000.0  # SmolLM2-135M in float32 on two CPU cores
    device: str | None = None


@dataclass(frozen=True)
class NestedLevels:
    """The levels of a nested pass, which set its cost. `layer_count` is 0 for an unknown order."""

    removal_order: tuple[int, ...] = ()
    layer_count: int = 0
    unit: Unit = "attention"

    def pass_count(self, levels: Collection[int]) -> float:
        """The cost of one pass over these levels and level 0, in passes through the whole model.

            nested.pass_count(range(16))  # about 7

        Levels share a layer if they have removed the same layers in front of it. A level that keeps
        no further attention reads few tokens and is not counted. Without an order, each further
        level costs ASSUMED_LEVEL_COST. Levels that lack experts share nothing.
        """
        if self.unit == "expert":
            return float(len({0, *levels}))
        removed = {frozenset(self.removal_order[:level]) for level in {0, *levels}}
        if not self.layer_count:
            return 1 + ASSUMED_LEVEL_COST * len({*levels} - {0})
        computed = 0
        for layer in range(self.layer_count):
            behind = frozenset(range(layer, self.layer_count))
            running = [lacked for lacked in removed if self.unit == "mlp" or not behind <= lacked]
            computed += len({lacked - behind | lacked & {layer} for lacked in running})
        return computed / self.layer_count


def counted_tokens(
    explanation: Explanation | None,
    nested: NestedLevels,
    prompts: Prompts,
    rows: int,
    levels: Collection[int],
) -> float:
    """The forward tokens of a sweep, before prompts share their beginnings.

    An explanation without limits covers all rows and levels.
    """
    tokens = rows * prompts.length * nested.pass_count(levels)
    if explanation is not None:
        explained_rows = rows if explanation.rows is None else min(rows, explanation.rows)
        explained_levels = {0, *(explanation.levels or levels)}
        prompt_tokens, length = round(prompts.prompt_tokens), round(prompts.length)
        for_one_row = explanation_token_counts(
            explanation, prompt_tokens, length, len(explained_levels)
        )
        unpruned = length * unpruned_prompt_count(explanation, prompt_tokens)
        shared = nested.pass_count(explained_levels) / len(explained_levels)
        tokens += explained_rows * (shared * (sum(for_one_row.values()) - unpruned) + unpruned)
    return tokens


def measured_price(
    connection: Connection, runs: Sequence[Mapping[str, Any]], task: str
) -> SweepPrice:
    """The price from rows of `runs` of one model in one number format, latest first.

    Runs on the task count. Without such runs, runs on other tasks count, and the length of the
    prompts is assumed. Runs that copied results do not count: they computed only a part of their
    rows.
    """
    copying = _copying_runs(connection)
    sweeps = [
        run
        for run in runs
        if run["forward_tokens"]
        and run_kind(run["identity"]) == "sweep"
        and run["run_id"] not in copying
    ]
    if not sweeps:
        return SweepPrice()
    of_task = [run for run in sweeps if run["task"] == task]
    sweeps = (of_task or sweeps)[:MAX_PRICED_RUNS]
    lengths = _prompt_lengths(connection, [run["run_id"] for run in sweeps])
    counted = sum(
        counted_tokens(
            sweep_spec(run).explain,
            nested_levels(run),
            lengths.get(run["run_id"], ASSUMED_PROMPTS),
            run["example_count"],
            run["levels"],
        )
        for run in sweeps
    )
    device = sweeps[0]["device"]
    timed = [run for run in sweeps if run["device"] == device and run["duration_s"]]
    seconds = sum(run["duration_s"] for run in timed)
    return SweepPrice(
        prompts=lengths.get(of_task[0]["run_id"], ASSUMED_PROMPTS) if of_task else ASSUMED_PROMPTS,
        token_ratio=sum(run["forward_tokens"] for run in sweeps) / counted,
        tokens_per_second=sum(run["forward_tokens"] for run in timed) / seconds
        if seconds
        else SweepPrice.tokens_per_second,
        device=device if seconds else None,
    )


def nested_levels(run: Mapping[str, Any]) -> NestedLevels:
    """The nested levels of a row of `runs`."""
    return NestedLevels(tuple(run["removal_order"] or ()), run["layer_count"] or 0, run["unit"])


def _copying_runs(connection: Connection) -> set[str]:
    """The ids of the runs that copied more than a removal order from other runs."""
    query = BoundQuery("select distinct run_id from copied_cells where table_name != 'layers'")
    return {row["run_id"] for row in query.records(connection)}


def _prompt_lengths(connection: Connection, run_ids: Sequence[str]) -> dict[str, Prompts]:
    """The mean lengths of the prompts of each run that stores them."""
    rows = BoundQuery(
        """
        select
            run_id,
            avg(len(prompt_tokens)) as prompt_tokens,
            avg(list_sum(list_transform(options, lambda text: strlen(text)))) as option_bytes
        from examples
        where list_contains($run_ids, run_id) and prompt_tokens is not null
        group by run_id
        """,
        run_ids=list(run_ids),
    ).records(connection)
    return {
        row["run_id"]: Prompts(
            row["prompt_tokens"],
            row["prompt_tokens"] + float(row["option_bytes"] or 0) / BYTES_PER_TOKEN,
        )
        for row in rows
    }
