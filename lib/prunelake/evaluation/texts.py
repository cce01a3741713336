"""Texts: the likelihood of each prompt and its greedy continuation, at every level of a sweep."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import polars as pl
import torch
from transformers import GenerationConfig, PreTrainedModel

from prunelake.errors import ModelError, UnsupportedModel
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.gpu.memory import is_out_of_memory
from prunelake.models.precision import matmul_precision
from prunelake.models.removal import detached
from prunelake.schema.run_tables import TEXTS
from prunelake.tasks.encoding import EncodedExample

Ids = tuple[int, ...]


def measure_texts(
    model: NestedModel,
    run_id: str,
    examples: Sequence[EncodedExample],
    levels: tuple[int, ...],
    new_tokens: int,
    decode: Callable[[Sequence[int]], str],
    progress: Progress | None = None,
    known: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The frame of `texts`: one row for each level and example, level 0 first.

    `decode` gives the text of token ids. Cells that have a row in `known` are left out.

    Raises:
        ModelError: as `NestedModel.log_likelihoods`; or one continuation does not fit into memory.
        UnsupportedModel: as `removal.detached`; or a model that transformers cannot generate with.
    """
    known_keys = TEXTS.cell_keys(known)
    missing = {
        level: [e for e in examples if (level, e.example.example_id) not in known_keys]
        for level in levels
    }
    likelihoods = _prompt_log_likelihoods(model, examples, missing)
    total = sum(map(len, missing.values()))
    rows = []
    for level, asked in missing.items():
        prompts = [(*example.prefix, *example.prompt) for example in asked]
        continued = _continue(model, level, prompts, new_tokens)
        for example, generated in zip(asked, continued, strict=True):
            example_id = example.example.example_id
            rows.append(
                {
                    "run_id": run_id,
                    "level": level,
                    "example_id": example_id,
                    "prompt_nll": 0.0 - likelihoods.get((level, example_id), 0.0),
                    "predicted_tokens": len(_beginning_and_rest(example)[1]),
                    "generated_ids": generated,
                    "generated": decode(generated),
                }
            )
        if progress:
            progress(len(rows), total)
    return TEXTS.frame(rows)


def _beginning_and_rest(example: EncodedExample) -> tuple[Ids, Ids]:
    """The tokens in front of the first predicted token of a prompt, and the predicted tokens."""
    if example.prefix:
        return example.prefix, example.prompt
    return example.prompt[:1], example.prompt[1:]


def _prompt_log_likelihoods(
    model: NestedModel,
    examples: Sequence[EncodedExample],
    missing: dict[int, list[EncodedExample]],
) -> dict[tuple[int, str], float]:
    """The log-likelihood (nats) of the predicted tokens, by level and example.

    Examples of which no token is predicted have none.
    """
    asked: list[tuple[str, ScoringQuery]] = []
    for example in examples:
        beginning, rest = _beginning_and_rest(example)
        own = tuple(level for level, lacking in missing.items() if example in lacking)
        if own and rest:
            query = ScoringQuery(beginning, (rest,), own)
            asked.append((example.example.example_id, query))
    answers = model.log_likelihoods([query for _, query in asked])
    return {
        (level, example_id): float(value)
        for (example_id, query), answer in zip(asked, answers, strict=True)
        for level, value in zip(query.levels, answer[:, 0], strict=True)
    }


def _continue(
    model: NestedModel, level: int, prompts: Sequence[Ids], new_tokens: int
) -> list[list[int]]:
    """The greedy continuation of each prompt at a level, always with `new_tokens` tokens.

    The removed parts are really absent, so that the cache of keys and values is right. Prompts run
    together, padded on the left. A model that also mixes tokens without attention, such as a state
    space, reads padding: its batches have prompts of one length.
    """
    found: dict[int, list[int]] = {}
    with (
        matmul_precision(model.model),
        _endless_generation(model.model),
        detached(model.model, model.removed[level], model.unit),
    ):
        for batch in _batches(model, prompts, new_tokens):
            answers = _generate(model, [prompts[n] for n in batch], new_tokens)
            found |= dict(zip(batch, answers, strict=True))
    return [found[n] for n in range(len(prompts))]


def _batches(model: NestedModel, prompts: Sequence[Ids], new_tokens: int) -> Iterator[list[int]]:
    """Indices of prompts that run together, shorter prompts first."""
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    may_pad = model.sharing.trees
    for _, group in groupby(order, key=lambda n: 0 if may_pad else len(prompts[n])):
        batch: list[int] = []
        for n in group:
            tokens = (len(batch) + 1) * (len(prompts[n]) + new_tokens)
            if batch and tokens > model.budget.tokens:
                yield batch
                batch = []
            batch.append(n)
        yield batch


def _generate(model: NestedModel, prompts: Sequence[Ids], new_tokens: int) -> list[list[int]]:
    """Continue prompts in one batch; in two halves if the batch does not fit into memory."""
    length = max(map(len, prompts))
    ids = torch.tensor([[*[0] * (length - len(p)), *p] for p in prompts])
    mask = torch.tensor([[*[0] * (length - len(p)), *[1] * len(p)] for p in prompts])
    generate: Any = model.model.generate  # typed as a module, like every attribute of a model
    try:
        with torch.inference_mode():
            output = generate(
                input_ids=ids.to(model.model.device),
                attention_mask=mask.to(model.model.device),
                max_new_tokens=new_tokens,
                do_sample=False,
            )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(prompts) == 1:
            raise ModelError(
                f"{model.model.device} has too little memory to continue one sequence of {length} "
                f"tokens by {new_tokens}; take fewer --text-tokens, or PRUNELAKE_DEVICE=cpu"
            ) from error
        half = len(prompts) // 2
        return [
            *_generate(model, prompts[:half], new_tokens),
            *_generate(model, prompts[half:], new_tokens),
        ]
    model.forward_tokens += sum(map(len, prompts)) + len(prompts) * (new_tokens - 1)
    found: list[list[int]] = output[:, length:].tolist()
    return found


def _end_ids(model: PreTrainedModel) -> list[int]:
    """The ids of the tokens that end a text; a model may have none."""
    config = model.generation_config
    ids = config.eos_token_id if config is not None else None
    return [] if ids is None else [ids] if isinstance(ids, int) else [*ids]


@contextmanager
def _endless_generation(model: PreTrainedModel) -> Iterator[None]:
    """Settings of generation: never stop, and ignore the model's own settings.

    An instruction model ends many prompts at once, which leaves nothing to compare, so the tokens
    that end a text are never chosen. A penalty for repetition would hide the repetition.
    """
    if not (hasattr(model, "generate") and model.can_generate()):
        raise UnsupportedModel(
            f"{type(model).__name__} cannot generate text in transformers; leave out --text-rows"
        )
    own = model.generation_config
    model.generation_config = GenerationConfig(suppress_tokens=_end_ids(model) or None)
    try:
        yield
    finally:
        model.generation_config = own
