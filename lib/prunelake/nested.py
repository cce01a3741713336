"""One forward pass for all levels of a sweep.

Level k lacks the first k layers of the removal order, so the levels are nested: two of them compute
the same until the first layer that only one of them lacks. Rows therefore run together until their
levels part. In front of such a layer a row is split in two, and the layer's attention runs only on
the half that keeps it. The model's own code is unchanged: hooks in front of its blocks split the
rows, and a gate around each attention picks those that keep it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.errors import ModelError, UnknownLayer
from prunelake.models import attention_layers, head, text_config
from prunelake.surgery import Forward, attention_input, replaced_forward

LOGIT_ELEMENTS = 2**25
"""Logits held at a time: 128 MiB in float32, whatever the vocabulary."""

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
        device = self.model.device
        length = max(len(row.tokens) for row in rows)
        tokens = _padded([row.tokens for row in rows], length)
        positions = _padded([row.positions for row in rows], length)
        segments = _padded([row.segments for row in rows], length, fill=-1)
        inputs: dict[str, Tensor] = {"input_ids": tokens.to(device)}
        if own_masks:
            mask = _shared_prompt_mask(segments, self.model.dtype)
            inputs |= {"attention_mask": mask.to(device), "position_ids": positions.to(device)}
        else:
            inputs |= {"attention_mask": (segments >= 0).long().to(device)}
        split = _Split(self.removal_order, [row.levels for row in rows])
        with self._splitting(split):
            hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        self.forward_tokens += split.layer_passes * length / len(self.layers)
        return self._read(hidden, split, rows)

    @contextmanager
    def _splitting(self, split: "_Split") -> Iterator[None]:
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                hook = layer.block.register_forward_pre_hook(
                    lambda _, args, kwargs, n=number: split.enter(n, args, kwargs),
                    with_kwargs=True,
                )
                stack.callback(hook.remove)
                stack.enter_context(replaced_forward(layer.attention, split.gate))
            yield

    def _read(self, hidden: Tensor, split: "_Split", rows: list[_Row]) -> list[NDArray[np.float64]]:
        """Log-likelihoods of the rows' targets from the states' last hidden states.

        The head runs once a position that predicts something, in chunks of bounded memory.
        """
        where: list[tuple[int, int]] = []  # state, position
        targets: list[tuple[int, int]] = []  # index into where, token
        owners: list[tuple[int, int]] = []  # state, option
        for state, row in enumerate(split.rows):
            index: dict[int, int] = {}
            for position, token, option in rows[row].targets:
                if position not in index:
                    index[position] = len(where)
                    where.append((state, position))
                targets.append((index[position], token))
                owners.append((state, option))
        order = sorted(range(len(targets)), key=lambda i: targets[i][0])
        columns, ids = (
            torch.tensor(part, device=hidden.device)
            for part in zip(*[targets[i] for i in order], strict=True)
        )
        state, position = torch.tensor(where, device=hidden.device).T
        wanted = hidden[state, position]
        chunk = max(1, LOGIT_ELEMENTS // text_config(self.model).vocab_size)
        parts = []
        for start in range(0, len(where), chunk):
            logits = head(self.model, wanted[start : start + chunk])
            first, last = torch.searchsorted(
                columns, torch.tensor([start, start + chunk], device=hidden.device)
            ).tolist()
            column = columns[first:last] - start
            parts.append(logits[column, ids[first:last]] - logits.logsumexp(-1)[column])
        values = torch.cat(parts).double().cpu().numpy()
        width = max(option for row in rows for _, _, option in row.targets) + 1
        sums = np.zeros((len(split.rows), width))
        np.add.at(sums, tuple(np.array([owners[i] for i in order]).T), values)
        answers = [np.zeros((len(row.levels), width)) for row in rows]
        for n, (row_number, levels) in enumerate(zip(split.rows, split.levels, strict=True)):
            for level in levels:
                answers[row_number][rows[row_number].levels.index(level)] = sums[n]
        return answers


class _Split:
    """Which rows and levels the states of one running forward pass stand for.

    A state is a row of the tensors that run through the model; it serves one row of the batch at
    the levels that have computed the same so far.
    """

    def __init__(self, removal_order: Sequence[int], levels: Sequence[tuple[int, ...]]) -> None:
        self.rank = {layer: rank for rank, layer in enumerate(removal_order)}
        self.batch_size = len(levels)
        self.rows = [*range(len(levels))]
        self.levels = [*levels]
        self.layer_passes = 0
        self._is_split = False
        self._keeping: list[int] = []

    def enter(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split the states whose levels part at `layer`; line up the block's other arguments."""
        hidden = attention_input(args, kwargs)
        rank = self.rank.get(layer, len(self.rank))
        origin: list[int] = []
        rows: list[int] = []
        levels: list[tuple[int, ...]] = []
        keeping: list[int] = []
        for state, (row, own) in enumerate(zip(self.rows, self.levels, strict=True)):
            keep = tuple(level for level in own if level <= rank)
            for part, keeps in ((keep, True), (own[len(keep) :], False)):
                if part:
                    if keeps:
                        keeping.append(len(rows))
                    origin.append(state)
                    rows.append(row)
                    levels.append(part)
        if len(rows) > len(self.rows):
            self._is_split = True
            hidden = _pick(hidden, origin)
        self.rows, self.levels, self._keeping = rows, levels, keeping
        self.layer_passes += len(rows)
        if self._is_split:
            kwargs = _pick_all(kwargs, rows, self.batch_size)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": hidden}

    def gate(self, forward: Forward) -> Forward:
        """An attention that runs only on the states that keep it and adds nothing to the rest."""

        def gated(*args: Any, **kwargs: Any) -> Any:
            keeping, count = self._keeping, len(self.rows)
            if len(keeping) == count:
                return forward(*args, **kwargs)
            hidden = attention_input(args, kwargs)
            nothing = torch.zeros_like(hidden)
            if not keeping:
                return nothing, None
            if args:
                args = (_pick(hidden, keeping), *args[1:])
            output = forward(*args, **_pick_all(kwargs, keeping, count))[0]
            return nothing.index_copy_(0, torch.tensor(keeping, device=hidden.device), output), None

        return gated


def _pick(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    return tensor.index_select(0, torch.tensor(rows, device=tensor.device))


def _pick_all(kwargs: dict[str, Any], rows: Sequence[int], size: int) -> dict[str, Any]:
    """Every tensor among `kwargs` whose first dimension is the `size` rows, at the given rows.

    Tensors of first dimension 1 are broadcast by the model itself and stay.
    """

    def pick(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(pick(part) for part in value)
        batched = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == size > 1
        return _pick(value, rows) if batched else value

    return {name: pick(value) for name, value in kwargs.items()}


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


def _padded(rows: Sequence[Sequence[int]], length: int, fill: int = 0) -> Tensor:
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _shared_prompt_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [rows, 1, tokens, tokens]: a token sees the prompt and its own option so far.

    Padding (segment -1) sees itself and the prompt, so that no row of the softmax is empty.
    """
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = causal & ((key == 0) | (key == query))
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]
