"""One forward pass for all levels of a sweep.

Level k lacks the first k layers of the removal order, so the levels are nested: two levels compute
the same until the first layer that only one of them lacks. Rows therefore run together until their
levels part. In front of such a layer a row splits in two, and the removed unit (attention, MLP, or
both) runs only on the half that keeps it. After the last attention that its levels keep, only the
tokens that are read continue. The model's own code is unchanged: hooks in front of its blocks split
the rows, and a gate around the removed unit picks the rows that keep it (`branches`).

A search for a removal order asks in the same way about levels that are not nested: each candidate
lacks the layers removed so far and one more, and shares everything in front of that layer.

Levels that lack experts have rows of their own, in common batches: they part at the first block
with experts.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.inference.batches import (
    TokenBudget,
    batches,
    fastest_batch_tokens,
    max_gradient_tokens,
    max_tokens_in_memory,
    row_lengths,
)
from prunelake.inference.branches import Branches
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.overflow import check_finite
from prunelake.inference.prefix_tree import PrefixTree, ScoringQuery, batch_inputs, build_trees
from prunelake.inference.read_out import token_log_likelihoods
from prunelake.inference.sharing import (
    Sharing,
    check_order,
    decide_sharing,
    is_exact,
    longest_tree,
)
from prunelake.inference.transfer import send
from prunelake.inference.within_memory import BatchScorer, score_within_memory
from prunelake.models.decoder.calls import replaced_forward
from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.decoder.decoder_probe import probe_decoder
from prunelake.models.decoder.experts import choosing, expert_mixtures, lacking_experts
from prunelake.models.decoder.level_range import level_range
from prunelake.models.expert_deletion import check_routing
from prunelake.models.precision import matmul_precision
from prunelake.schema.arrays import FloatArray
from prunelake.spec import UNIT_NAMES, Unit

Progress = Callable[[int, int], None]


class NestedModel:
    """A model that answers queries at many removal levels at once.

    Args:
        model: it is used, never changed.
        removal_order: layers, first removed first; or experts, as in `expert_order`.
        token_budget: tokens x levels that run together; by default as many as are fast and fit
            into the free memory.
        shared_prompt: lay out queries that begin alike as one row, if the attention allows it;
            otherwise each option of each query is a row of its own.
        unit: the part of a layer that is removed.
        sharing: what levels and options share; by default as much as leaves the numbers exact.

    Raises:
        UnsupportedModel: as `decoder_map.removable_parts`; or a model that computes something else
            even where nothing is shared.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        removal_order: Sequence[int],
        token_budget: int | None = None,
        shared_prompt: bool = True,
        unit: Unit = "attention",
        sharing: Sharing | None = None,
    ) -> None:
        self.model = model
        self.unit = unit
        self.blocks = decoder_blocks(model)
        self.layers = removable_parts(model, unit)
        self._mixtures = expert_mixtures(model) if unit == "expert" else ()
        self._probe = probe_decoder(model)
        self.sharing: Final = sharing or decide_sharing(model, unit, _is_exact)
        """The work that levels and options share in a pass."""
        known = level_range(model, unit)
        deepest = min(known.deepest, len(removal_order) // known.parts_per_level)
        self.removed: Final = tuple(
            tuple(removal_order[: k * known.parts_per_level]) for k in range(deepest + 1)
        )
        """The layers or experts that each level lacks, level 0 first."""
        self.level_masks: Final = self.masks_without(self.removed)
        """The levels of the removal order; each query may be asked at other levels."""
        self._has_states = not self.sharing.trees or any(
            part.is_read_later for block in self.blocks for part in block.parts
        )
        self._largest_row = max_tokens_in_memory(model)
        self.lengths: Final = row_lengths(model)
        fastest = fastest_batch_tokens(model)
        self.budget: Final = TokenBudget(token_budget or min(self._largest_row, fastest))
        self.gradient_budget: Final = TokenBudget(
            min(max_gradient_tokens(model), (token_budget or fastest) // 8)
        )
        self.forward_tokens = 0.0
        """Tokens that went through the whole model, counted in layer passes."""
        self._longest_shared = longest_tree(model) if shared_prompt and self.sharing.trees else 0

    def masks_without(self, removed: Sequence[Collection[int]]) -> LevelMasks:
        """Levels that each lack the unit of these layers, for a search; or these experts."""
        masks = LevelMasks(
            [()] * len(removed) if self._mixtures else removed,
            len(self.layers),
            self.unit,
            [parts[0].block for parts in self.layers],
            len(self.blocks),
            can_pack=self.sharing.packing,
        )
        if self._mixtures:
            masks.lacking_experts = lacking_experts(self._mixtures, removed)
        return masks

    def log_likelihoods(
        self,
        queries: Sequence[ScoringQuery],
        progress: Progress | None = None,
        masks: LevelMasks | None = None,
    ) -> list[FloatArray]:
        """Summed log-likelihood (nats) of each option: for each query an array [levels, options].

        The levels of a query count in `masks`, by default in the levels of the removal order.

        Raises:
            UnknownLayer: a level beyond `masks`.
            ModelError: numbers that overflow, or a device whose memory does not hold one row.
        """
        masks = masks or self.level_masks
        laid_out = [*build_trees(queries, self._longest_shared, self.lengths)]
        answers = [np.zeros((len(q.levels), len(q.options))) for q in queries]
        rows = [row for row, _ in laid_out]
        score = partial(self._score_options, masks=masks)
        scored = self.score_in_batches(rows, score, progress=progress, masks=masks)
        for (_, owners), values in zip(laid_out, scored, strict=True):
            for answer, (n, option) in enumerate(owners):
                answers[n][:, option] = values[:, answer]
        check_finite(queries, answers)
        return answers

    def score_in_batches(
        self,
        rows: Sequence[PrefixTree],
        score: BatchScorer,
        budget: TokenBudget | None = None,
        progress: Progress | None = None,
        masks: LevelMasks | None = None,
    ) -> list[FloatArray]:
        """The result of `score` for each row; rows of like length run together.

        A batch holds as many tokens x levels as the budget allows (by default `self.budget`), but
        at least one row, or so many of its levels as memory holds. `progress` receives the number
        of answers.

        Raises:
            UnknownLayer, ModelError: as `log_likelihoods`.
        """
        deepest = max((level for row in rows for level in row.levels), default=0)
        level_count = (masks or self.level_masks).level_count
        if deepest >= level_count:
            raise UnknownLayer(
                f"level {deepest}: the model has {level_count - 1} {UNIT_NAMES[self.unit]}"
            )
        answers: list[FloatArray] = [np.empty(0)] * len(rows)
        done, total = 0, sum(row.option_count for row in rows)
        budget = budget or self.budget
        for numbers in batches(rows, budget, self.lengths):
            with matmul_precision(self.model):
                found = score_within_memory(
                    [rows[n] for n in numbers], score, budget, self._largest_row, self.model.device
                )
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
            done += sum(rows[n].option_count for n in numbers)
            if progress:
                progress(done, total)
        return answers

    def run_batch(
        self,
        rows: Sequence[PrefixTree],
        inputs: dict[str, Tensor],
        masks: LevelMasks | None = None,
    ) -> tuple[Tensor, Branches]:
        """The last hidden states of a batch, and the branches that locate its rows in them."""
        inputs = {name: send(tensor, self.model.device) for name, tensor in inputs.items()}
        levels, read = [row.levels for row in rows], [row.read_positions for row in rows]
        masks = masks or self.level_masks
        branches = Branches(
            masks,
            levels,
            read,
            self._probe,
            has_states=self._has_states,
        )
        with self._branching(branches), self._choosing_experts(rows, masks):
            hidden = self._probe.trunk(**inputs, use_cache=False).last_hidden_state
        self.forward_tokens += branches.block_tokens / len(self.blocks)
        return hidden, branches

    def target_log_likelihoods(
        self, hidden: Tensor, branches: Branches, rows: Sequence[PrefixTree]
    ) -> tuple[Tensor, list[tuple[int, int, int]]]:
        """Log-likelihoods [targets] in float32, and the row, answer and level of each target.

        All levels of one state have the same values, so the first level stands for them.
        """
        places = branches.read_locations(hidden.shape[1])
        where = [place for _, _, found in places for place in found]
        targets: list[tuple[int, int]] = []  # index into where, token
        owners: list[tuple[int, int, int]] = []
        start = 0
        for row, levels, found in places:
            index = {position: start + n for n, position in enumerate(rows[row].read_positions)}
            own = sorted(rows[row].targets)
            targets += [(index[position], token) for position, token, _ in own]
            owners += [(row, answer, levels[0]) for _, _, answer in own]
            start += len(found)
        columns, ids = np.array(targets).T
        flat = np.ravel_multi_index(tuple(np.array(where).T), hidden.shape[:2])
        return token_log_likelihoods(self.model, hidden, flat, columns, ids), owners

    @torch.inference_mode()
    def _score_options(self, rows: list[PrefixTree], masks: LevelMasks) -> list[FloatArray]:
        """For each row an array [levels, answers] of log-likelihoods."""
        if not self.sharing.levels and any(len(row.levels) > 1 for row in rows):
            alone = [replace(row, levels=(level,)) for row in rows for level in row.levels]
            found = iter(self._score_options(alone, masks))
            return [np.concatenate([next(found) for _ in row.levels]) for row in rows]
        inputs = batch_inputs(rows, self.model.dtype, self.lengths)
        hidden, branches = self.run_batch(rows, inputs, masks)
        values, owners = self.target_log_likelihoods(hidden, branches, rows)
        width = max(row.option_count for row in rows)
        sums = np.zeros((len(rows), width, max(row.levels[-1] for row in rows) + 1))
        np.add.at(sums, tuple(np.array(owners).T), values.double().cpu().numpy())
        answers = [np.zeros((len(row.levels), width)) for row in rows]
        for row, levels in branches.rows_and_levels():
            for level in levels:
                answers[row][rows[row].levels.index(level)] = sums[row, :, levels[0]]
        return answers

    @contextmanager
    def _branching(self, branches: Branches) -> Iterator[None]:
        with ExitStack() as stack:
            for number, block in enumerate(self.blocks):
                hook = block.module.register_forward_pre_hook(
                    lambda _, args, kwargs, n=number: branches.enter_block(n, args, kwargs),
                    with_kwargs=True,
                )
                stack.callback(hook.remove)
            for part in chain.from_iterable(() if self._mixtures else self.layers):
                gate = partial(branches.gate, part, self._probe.forms[part.block, part.name])
                stack.enter_context(replaced_forward(part.module, gate))
            yield

    def _choosing_experts(
        self, rows: Sequence[PrefixTree], masks: LevelMasks
    ) -> AbstractContextManager[None]:
        """Let the routers choose the experts that the level of each row keeps."""
        if masks.lacking_experts is None:
            return nullcontext()
        levels = [level for row in rows for level in row.levels]
        if len(levels) > len(rows):
            raise ValueError("levels that lack experts share no rows")
        return choosing(self._mixtures, masks.lacking_experts[levels])


def _is_exact(model: PreTrainedModel, unit: Unit, sharing: Sharing) -> bool:
    """Whether levels that share so much have the numbers of separate passes."""
    if unit == "expert":
        check_routing(model)
    levels = level_range(model, unit)
    nested = NestedModel(model, check_order(levels), unit=unit, sharing=sharing)
    return is_exact(nested.log_likelihoods, model, unit, levels)
