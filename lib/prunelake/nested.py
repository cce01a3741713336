"""One forward pass for all levels of a sweep.

Level k lacks the first k layers of the removal order, so the levels are nested: two of them compute
the same until the first layer that only one of them lacks. Rows therefore run together until their
levels part. In front of such a layer a row is split in two, and the layer's attention runs only on
the half that keeps it. Behind the last attention that its levels keep, only the tokens that are
read go on. The model's own code is unchanged: hooks in front of its blocks split the rows, and a
gate around each attention picks those that keep it (`states`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.errors import ModelError, UnknownLayer
from prunelake.models import attention_layers, head, text_config
from prunelake.states import States
from prunelake.surgery import replaced_forward

LOGIT_ELEMENTS = 2**25
"""Logits held at a time: 128 MiB in float32, whatever the vocabulary."""

CACHED_ELEMENTS = 2**19
"""Logits that a CPU adds up at a time: with their exponentials they stay in its cache."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Query:
    """Score each option after the prompt, at each level (ascending). All are token ids."""

    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class _Row:
    """A query laid out as one sequence: the prompt, then each option without its last token.

    Option token j is predicted at `position`: the prompt's end for the first one.
    """

    tokens: list[int]
    positions: list[int]
    segments: list[int]  # 0 for the prompt, 1.. for the options
    targets: list[tuple[int, int, int]]  # position, token, option
    levels: tuple[int, ...]

    @property
    def is_branched(self) -> bool:
        """Whether two options stand behind the prompt, which must not see one another."""
        return len({*self.segments}) > 2


class NestedModel:
    """A model that answers queries at many removal levels at once.

    Args:
        model: it is used, never changed.
        removal_order: layers, first removed first.
        token_budget: tokens x levels that run together; bounds the memory.
        shared_prompt: lay all options behind one prompt where the attention allows it; otherwise
            each option is a row of its own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        removal_order: Sequence[int],
        token_budget: int = 4096,
        shared_prompt: bool = True,
    ) -> None:
        self.model = model
        self.layers = attention_layers(model)
        self.removal_order = tuple(removal_order)
        self.token_budget = token_budget
        self.forward_tokens = 0.0
        """Tokens that went through the whole model, counted in layer passes."""
        config = text_config(model)
        takes_masks = config._attn_implementation in ("sdpa", "eager")
        # A window shorter than the sequence needs the model's own masks.
        self._longest_shared = (
            (getattr(config, "sliding_window", None) or config.max_position_embeddings)
            if shared_prompt and takes_masks
            else 0
        )

    def log_likelihoods(
        self, queries: Sequence[Query], progress: Progress | None = None
    ) -> list[NDArray[np.float64]]:
        """Summed log-likelihood (nats) of each option: for each query an array [levels, options].

        Raises:
            UnknownLayer: a level beyond the removal order.
            ModelError: the device's memory does not hold a single row.
        """
        deepest = max((level for query in queries for level in query.levels), default=0)
        if deepest > len(self.removal_order):
            raise UnknownLayer(
                f"level {deepest}: the model has {len(self.removal_order)} attention layers"
            )
        answers = [np.zeros((len(q.levels), len(q.options))) for q in queries]
        shared: list[tuple[_Row, int, list[int]]] = []
        plain: list[tuple[_Row, int, list[int]]] = []
        for n, query in enumerate(queries):
            row = _lay_out(query.prompt, query.options, query.levels)
            if len(row.tokens) <= self._longest_shared:
                shared.append((row, n, [*range(len(query.options))]))
            else:
                plain += [
                    (_lay_out(query.prompt, (option,), query.levels), n, [number])
                    for number, option in enumerate(query.options)
                ]
        total = len(shared) + len(plain)
        done = 0
        for rows, own_masks in ((shared, True), (plain, False)):
            for batch in self._batches(rows):
                scored = self._in_memory([row for row, _, _ in batch], own_masks)
                for (_, n, numbers), values in zip(batch, scored, strict=True):
                    answers[n][:, numbers] = values[:, : len(numbers)]
                done += len(batch)
                if progress:
                    progress(done, total)
        return answers

    def _batches(
        self, rows: list[tuple[_Row, int, list[int]]]
    ) -> Iterator[list[tuple[_Row, int, list[int]]]]:
        """Rows of like length together, as many as the token budget allows (at least one)."""
        batch: list[tuple[_Row, int, list[int]]] = []
        states = 0
        for item in sorted(rows, key=lambda item: len(item[0].tokens)):
            row = item[0]
            if batch and (states + len(row.levels)) * len(row.tokens) > self.token_budget:
                yield batch
                batch, states = [], 0
            batch.append(item)
            states += len(row.levels)
        if batch:
            yield batch

    def _in_memory(self, rows: list[_Row], own_masks: bool) -> list[NDArray[np.float64]]:
        """`_score`, in smaller batches from now on where the device's memory is too small."""
        try:
            return self._score(rows, own_masks)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise ModelError(
                    f"{self.model.device} has too little memory for one sequence of "
                    f"{len(rows[0].tokens)} tokens at {len(rows[0].levels)} levels; take fewer "
                    "levels, dtype bfloat16, or PRUNELAKE_DEVICE=cpu"
                ) from error
        # Behind the handler: until there, the error keeps the tensors of the failed batch.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        self.token_budget = max(1, self.token_budget // 2)
        half = len(rows) // 2
        return [
            *self._in_memory(rows[:half], own_masks),
            *self._in_memory(rows[half:], own_masks),
        ]

    @torch.inference_mode()
    def _score(self, rows: list[_Row], own_masks: bool) -> list[NDArray[np.float64]]:
        """For each row an array [levels, options] of log-likelihoods."""
        inputs = {"input_ids": _padded([row.tokens for row in rows])}
        # Padding is on the right, where no token looks: but for branches, being causal is enough.
        if own_masks and any(row.is_branched for row in rows):
            segments = [row.segments for row in rows]
            if all(own == segments[0] for own in segments):
                segments = segments[:1]
            inputs["attention_mask"] = _branches_mask(_padded(segments, -1), self.model.dtype)
            inputs["position_ids"] = _padded([row.positions for row in rows])
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        read = [sorted({position for position, _, _ in row.targets}) for row in rows]
        states = States(self.removal_order, [row.levels for row in rows], read, len(self.layers))
        with self._splitting(states):
            hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        self.forward_tokens += states.tokens / len(self.layers)
        return self._read_off(hidden, states, rows)

    @contextmanager
    def _splitting(self, states: States) -> Iterator[None]:
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                hook = layer.block.register_forward_pre_hook(
                    lambda _, args, kwargs, n=number: states.enter(n, args, kwargs),
                    with_kwargs=True,
                )
                stack.callback(hook.remove)
                stack.enter_context(replaced_forward(layer.attention, states.gate))
            yield

    def _read_off(
        self, hidden: Tensor, states: States, rows: list[_Row]
    ) -> list[NDArray[np.float64]]:
        """Log-likelihoods of the rows' targets from the last hidden states.

        The head runs once a position that predicts something, in chunks of bounded memory.
        """
        places = states.places(hidden.shape[1])
        where = [place for _, _, found in places for place in found]
        targets: list[tuple[int, int]] = []  # index into where, token
        owners: list[tuple[int, int]] = []  # state, option
        start = 0
        for state, (row, _, found) in enumerate(places):
            own = sorted(rows[row].targets)
            index = {p: start + n for n, p in enumerate(sorted({p for p, _, _ in own}))}
            targets += [(index[position], token) for position, token, _ in own]
            owners += [(state, option) for _, _, option in own]
            start += len(found)
        columns, ids = (
            torch.tensor(part, device=hidden.device) for part in zip(*targets, strict=True)
        )
        row_of, column_of = torch.tensor(where, device=hidden.device).T
        wanted = hidden[row_of, column_of]
        chunk = max(1, LOGIT_ELEMENTS // text_config(self.model).vocab_size)
        parts = []
        for start in range(0, len(where), chunk):
            logits = head(self.model, wanted[start : start + chunk])
            first, last = torch.searchsorted(
                columns, torch.tensor([start, start + chunk], device=hidden.device)
            ).tolist()
            column = columns[first:last] - start
            chosen = logits[column, ids[first:last]].float()
            parts.append(chosen - _log_normalisers(logits)[column])
        values = torch.cat(parts).double().cpu().numpy()
        width = max(option for row in rows for _, _, option in row.targets) + 1
        sums = np.zeros((len(places), width))
        np.add.at(sums, tuple(np.array(owners).T), values)
        answers = [np.zeros((len(row.levels), width)) for row in rows]
        for own_sums, (row, levels, _) in zip(sums, places, strict=True):
            for level in levels:
                answers[row][rows[row].levels.index(level)] = own_sums
        return answers


def _log_normalisers(logits: Tensor) -> Tensor:
    """Log of the sum of each row's exponentials, added up in float32."""
    rows = len(logits)
    if logits.device.type == "cpu":
        rows = max(1, CACHED_ELEMENTS // logits.shape[-1])
    starts = range(0, len(logits), rows)
    return torch.cat([logits[start : start + rows].float().logsumexp(-1) for start in starts])


def _lay_out(
    prompt: Sequence[int], options: Sequence[Sequence[int]], levels: tuple[int, ...]
) -> _Row:
    end = len(prompt) - 1
    tokens, positions, segments = [*prompt], [*range(len(prompt))], [0] * len(prompt)
    targets = []
    for number, option in enumerate(options):
        start = len(tokens)
        tokens += option[:-1]
        positions += range(end + 1, end + len(option))
        segments += [number + 1] * (len(option) - 1)
        for place, token in enumerate(option):
            targets.append((end if place == 0 else start + place - 1, token, number))
    return _Row(tokens, positions, segments, targets, levels)


def _padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _branches_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [rows, 1, tokens, tokens]: a token sees the prompt and its own option so far.

    Padding (segment -1) sees itself and the prompt, so that no row of the softmax is empty.
    """
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = causal & ((key == 0) | (key == query))
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]
