"""Evaluate one shard: from its examples and a model to rows of predictions and explanations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from prunelake.analysis.confidence import option_probabilities
from prunelake.evaluation.aopc_bounds import aopc_bounds, bounds_count
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.deletion_curves import (
    ExplainedPrompt,
    Progress,
    PromptRequest,
    deletion_curves,
    perturbed_prompt_count,
)
from prunelake.evaluation.predictions import predict
from prunelake.evaluation.texts import measure_texts
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.lake.partial_runs import CopiedCells
from prunelake.models.loading import ModelSource
from prunelake.schema.arrays import FloatArray
from prunelake.schema.run_tables import ATTRIBUTIONS, BOUNDS, DELETIONS, PREDICTIONS, TEXTS
from prunelake.schema.table import Table
from prunelake.spec import Dtype, Explanation, SpecialTokens, Unit
from prunelake.sweeps.plan import SweepPlan
from prunelake.sweeps.reuse import KnownCells
from prunelake.sweeps.shards import Shard
from prunelake.tasks.encoding import EncodedExample, Encoder

TableFrames = dict[str, pl.DataFrame]
StageProgress = Callable[[str, int, int], None]
"""Takes the name of a stage, the amount done and the total."""


@dataclass(frozen=True)
class ShardWork:
    """The examples of one shard and their settings; small enough to send to another process.

    `explanation` is None if the shard only predicts. The first `text_count` examples are continued
    by `new_tokens` tokens. `known` are the rows of each of `CELL_TABLES`
    that are copied from other runs, and `copied` counts these rows by run and table.
    """

    shard: Shard
    run_id: str
    source: ModelSource
    dtype: Dtype
    unit: Unit
    special_tokens: SpecialTokens
    levels: tuple[int, ...]
    explanation: Explanation | None
    text_count: int
    new_tokens: int
    examples: tuple[EncodedExample, ...]
    known: Mapping[str, pl.DataFrame]
    copied: tuple[CopiedCells, ...]

    @property
    def cell_counts(self) -> dict[str, int]:
        """The number of cells in each table, known or not."""
        counts = dict.fromkeys(self.known, 0)
        counts["predictions"] = len(self.examples) * len(self.levels)
        counts["texts"] = self.text_count * len(self.levels)
        explanation = self.explanation
        if explanation is not None:
            level_count = len(explanation.levels or self.levels)
            for example in self.examples:
                length = len(example.prompt)
                points = perturbed_prompt_count(explanation, length)
                counts["attributions"] += level_count * len(explanation.rankings)
                counts["deletions"] += level_count * points
                counts["bounds"] += level_count * bounds_count(explanation, length)
        return counts

    @property
    def missing_shares(self) -> dict[str, float]:
        """The share of cells in each table that are not known, from 0 to 1."""
        return {
            name: 1 - self.known[name].height / count if count else 0.0
            for name, count in self.cell_counts.items()
        }

    @property
    def is_known(self) -> bool:
        """Whether nothing is left to compute."""
        return not any(self.missing_shares.values())


def shard_work(plan: SweepPlan, shard: Shard, cells: KnownCells | None = None) -> ShardWork:
    """The part of a plan that one shard needs; `cells` are the known cells of the whole run."""
    examples = plan.examples[shard.start : shard.stop]
    explanation = plan.explanation_of(shard.start)
    texts = plan.texts
    text_rows = texts.rows if texts else 0
    known, copied = (cells or KnownCells.none()).of_examples(
        [example.example.example_id for example in examples],
        explanation.levels or plan.levels if explanation else (),
    )
    return ShardWork(
        shard,
        plan.identity.run_id,
        plan.source,
        plan.spec.dtype,
        plan.spec.strategy.unit,
        plan.spec.special_tokens,
        plan.levels,
        explanation,
        min(max(text_rows - shard.start, 0), len(examples)),
        texts.new_tokens if texts else 0,
        examples,
        known,
        copied,
    )


def evaluate_shard(
    work: ShardWork, encoder: Encoder, model: NestedModel, report: StageProgress
) -> TableFrames:
    """The rows of one shard, by table; known rows are not computed again.

    Every example gets predictions at all levels, and the first `text_count` get texts. Explained
    examples also get attributions and deletion curves and, if the spec asks for bounds, the least
    and the greatest area that a search finds for any ranking.

    Raises:
        ModelError: numbers overflow, or a single row does not fit into memory.
    """
    positions = {example.example.example_id: n for n, example in enumerate(work.examples)}
    frames: TableFrames = {}

    def with_known(table: Table, computed: pl.DataFrame) -> pl.DataFrame:
        """All rows of a table, by level and then by example."""
        position = pl.col("example_id").replace_strict(positions, return_dtype=pl.Int32)
        rows = pl.concat([work.known[table.name], computed])
        frames[table.name] = rows.sort("level", position, *table.key[3:])
        return frames[table.name]

    predicted = predict(
        model,
        work.run_id,
        work.examples,
        work.levels,
        partial(report, "predict"),
        work.known["predictions"],
    )
    predictions = with_known(PREDICTIONS, predicted)
    if work.text_count:
        measured = measure_texts(
            model,
            work.run_id,
            work.examples[: work.text_count],
            work.levels,
            work.new_tokens,
            encoder.decode,
            partial(report, "texts"),
            work.known["texts"],
        )
        with_known(TEXTS, measured)
    explanation = work.explanation
    if explanation is None:
        return frames
    levels = explanation.levels or work.levels
    prompts = [explained_prompt(encoder, model, example) for example in work.examples]
    attributed = compute_attributions(
        model,
        predictions,
        work.examples,
        levels,
        explanation,
        partial(report, "attribute"),
        work.known["attributions"],
    )
    attributions = with_known(ATTRIBUTIONS, attributed)
    deleted = deletion_curves(
        attributions,
        predictions,
        prompts,
        explanation,
        partial(report, "delete"),
        work.known["deletions"],
        partial(ask_together, encoder, model, work.examples),
    )
    with_known(DELETIONS, deleted)
    if explanation.bounds_beam is not None:
        beam = explanation.bounds_beam
        bounded = aopc_bounds(
            predictions,
            prompts,
            levels,
            beam,
            explanation,
            partial(report, "bound"),
            work.known["bounds"],
        )
        with_known(BOUNDS, bounded)
    return frames


def explained_prompt(
    encoder: Encoder, model: NestedModel, example: EncodedExample
) -> ExplainedPrompt:
    """An example together with a function that asks the model about changed versions of it."""

    def ask(requests: Sequence[PromptRequest]) -> list[FloatArray]:
        queries = [
            ScoringQuery(encoder.context_ids(ids), example.options, levels)
            for ids, levels in requests
        ]
        return [option_probabilities(answer) for answer in model.log_likelihoods(queries)]

    return ExplainedPrompt(example.example.example_id, example.prompt, ask, encoder.retokenise)


def ask_together(
    encoder: Encoder,
    model: NestedModel,
    examples: Sequence[EncodedExample],
    requests: Sequence[tuple[ExplainedPrompt, PromptRequest]],
    progress: Progress | None = None,
) -> list[FloatArray]:
    """The probabilities [levels, options] of perturbed prompts of several examples, in one call."""
    options = {encoded.example.example_id: encoded.options for encoded in examples}
    queries = [
        ScoringQuery(encoder.context_ids(ids), options[prompt.example_id], levels)
        for prompt, (ids, levels) in requests
    ]
    return [option_probabilities(answer) for answer in model.log_likelihoods(queries, progress)]
