"""The likelihoods of measured texts, and the perplexity that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from prunelake.lake.sql.views import select
from prunelake.schema.arrays import AnyFloatArray, BoolArray, FloatArray


@dataclass(frozen=True)
class TextScores:
    """The likelihoods of the prompts of one run, both [levels, examples].

    `nll` (nats) is summed over the predicted `tokens` of a prompt. Both are NaN where no token was
    predicted, and where the tokens are not those of level 0: their likelihoods do not compare.
    """

    nll: FloatArray
    tokens: FloatArray

    @property
    def is_known(self) -> BoolArray:
        """Which prompts have likelihoods: [levels, examples]."""
        known: BoolArray = ~np.isnan(self.nll)
        return known


def load_text_scores(
    connection: duckdb.DuckDBPyConnection, levels: Sequence[int], example_ids: Sequence[str]
) -> TextScores | None:
    """Load the likelihoods of the only run that the connection shows; None if it has no texts."""
    rows = select(
        connection,
        """
        select texts.level, example_id, prompt_nll, predicted_tokens
        from texts
        inner join runs
            on texts.run_id = runs.run_id and list_contains(runs.levels, texts.level)
        where isfinite(prompt_nll) and predicted_tokens > 0 and shares_tokens
        """,
    )
    if rows.is_empty():
        return None
    shape = len(levels), len(example_ids)
    nll, tokens = np.full(shape, np.nan), np.full(shape, np.nan)
    level_index = {level: index for index, level in enumerate(levels)}
    example_index = {example_id: index for index, example_id in enumerate(example_ids)}
    for level, example_id, own_nll, own_tokens in rows.iter_rows():
        place = level_index[level], example_index[example_id]
        nll[place], tokens[place] = own_nll, own_tokens
    return TextScores(nll, tokens)


def perplexities(nll: FloatArray, tokens: FloatArray, weights: AnyFloatArray) -> FloatArray:
    """The perplexity exp(sum nll / sum tokens) of each resample: [replicates].

    `nll` and `tokens` are [examples], `weights` is [examples, replicates]. The perplexity of a
    resample without examples is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.exp((nll @ weights) / (tokens @ weights))
    return found
