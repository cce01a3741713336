"""What the levels and the options of a pass share, as far as the numbers stay exact.

    sharing = decide_sharing(model, "attention", is_exact)

The structure of a model says what could be shared. A comparison with plain passes, on a few tokens,
decides: where the numbers differ, less is shared.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel

from prunelake.errors import ModelError, UnsupportedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.decoder.block_parts import BlockPart, has_convolution
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks
from prunelake.models.decoder.level_range import LevelRange
from prunelake.models.decoder.text_model import context_length, text_config
from prunelake.models.precision import MATMUL_PRECISION_ATTRIBUTE, matmul_precision
from prunelake.models.removal import removed
from prunelake.schema.arrays import FloatArray
from prunelake.spec import Unit, removed_parts

WINDOW_NAMES = re.compile(r"(window|window_size|chunk_size|topk|budget|block_size|ngram_size)$")
"""The names of fields of a configuration that limit which tokens an attention sees."""


@dataclass(frozen=True)
class Sharing:
    """What a pass shares.

    - `trees`: options and prompts that begin alike stand in one row, under a mask.
    - `levels`: levels run together until they part; otherwise each has rows of its own.
    - `packing`: tokens that no longer mix are packed into common rows.
    """

    trees: bool
    levels: bool
    packing: bool


Check = Callable[[PreTrainedModel, Unit, Sharing], bool]
"""Whether a model has the numbers of plain passes if its levels share so much."""

_decided: WeakKeyDictionary[PreTrainedModel, dict[Unit, Sharing]] = WeakKeyDictionary()


def decide_sharing(model: PreTrainedModel, unit: Unit, is_exact: Check) -> Sharing:
    """The most that the levels of a model may share; decided once for a model and a unit.

    Raises:
        UnsupportedModel: the numbers differ from plain passes even where nothing is shared; or
            tokens also attend to later tokens.
    """
    known = _decided.setdefault(model, {})
    if not known and not _is_causal(model):
        raise UnsupportedModel(
            f"{type(model).__name__} is not supported: its tokens also attend to "
            "later tokens, so a plain pass gives no likelihoods of next tokens"
        )
    if unit not in known:
        for sharing in _candidates(possible_sharing(model, unit)):
            if is_exact(model, unit, sharing):
                known[unit] = sharing
                break
        else:
            raise UnsupportedModel(
                f"{type(model).__name__} is not supported: several rows in one pass give other "
                "numbers than separate passes"
            )
    return known[unit]


def possible_sharing(model: PreTrainedModel, unit: Unit) -> Sharing:
    """The work that the levels of a model could share by its structure."""
    blocks = decoder_blocks(model)
    return Sharing(
        trees=not why_no_trees(model, blocks),
        levels=unit != "expert",
        packing=not why_no_packing(blocks, unit),
    )


def why_no_trees(model: PreTrainedModel, blocks: Sequence[DecoderBlock]) -> str:
    """Why options cannot share a row under a mask; empty if they can."""
    if part := next((p for p in _parts(blocks) if p.mixes_tokens and p.kind != "attention"), None):
        return f"block {part.block} mixes tokens by their order ({type(part.module).__name__})"
    if block := next((block for block in blocks if has_convolution(block.module)), None):
        return f"block {block.index} has a convolution over tokens"
    attention: str = text_config(model)._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"the attention {attention} takes no mask of its own"
    return ""


def why_no_packing(blocks: Sequence[DecoderBlock], unit: Unit) -> str:
    """Why tokens mix to the end at each level; empty if they stop to mix at some levels."""
    if unit not in ("attention", "block"):
        return "the attention remains at each level"
    for part in _parts(blocks):
        if part.is_read_later:
            return f"a later block reads what the attention of block {part.block} computes"
        if unit == "attention" and part.mixes_tokens and part.kind != "attention":
            return f"block {part.block} mixes tokens also with {type(part.module).__name__}"
    if unit == "attention" and any(has_convolution(block.module) for block in blocks):
        return "blocks have convolutions over tokens"
    return ""


def longest_tree(model: PreTrainedModel) -> int:
    """The most tokens of a row with a mask of its own: a window needs the model's own masks."""
    fields = text_config(model).to_dict()
    limits = [
        value
        for name, value in fields.items()
        if WINDOW_NAMES.search(name) and type(value) is int and value > 0
    ]
    return min([*limits, context_length(text_config(model))])


def check_order(levels: LevelRange) -> tuple[int, ...]:
    """A removal order that starts in the middle and takes both ends early."""
    count = levels.layer_count
    order = dict.fromkeys([count // 2, 0, count - 1, *range(count)])
    blocks = range(0, levels.part_count, count)
    # Each block begins at another expert: a block must not lack the experts of another block.
    return tuple(first + (n + first // count) % count for n in order for first in blocks)


def is_exact(
    log_likelihoods: Callable[[Sequence[ScoringQuery]], Sequence[FloatArray]],
    model: PreTrainedModel,
    unit: Unit,
    levels: LevelRange,
) -> bool:
    """Whether queries have the numbers of plain passes, alone and together.

    Args:
        log_likelihoods: the nested pass, by the levels of `check_order`.
        model: the model of the plain passes.
        unit: what the levels lack.
        levels: the levels of this unit.
    """
    queries = _check_queries(model, levels.deepest)
    expected = _plain_log_likelihoods(model, unit, queries, levels)
    try:
        found = [*log_likelihoods(queries), *log_likelihoods(queries[:1])]
    except ModelError:  # too little memory, or a device that failed
        raise
    except Exception:  # model code raises any type; such a pass is not exact
        return False
    pairs = zip(found, [*expected, expected[0]], strict=True)
    return all(_is_close(model, got, wanted) for got, wanted in pairs)


@torch.inference_mode()
def _is_causal(model: PreTrainedModel) -> bool:
    """Whether another last token leaves the logits at the tokens before it as they are."""
    vocabulary: int = text_config(model).vocab_size
    ids = torch.tensor([[3 + n * 7919 % (vocabulary - 3) for n in range(8)]], device=model.device)
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    first, second = (
        np.nan_to_num(model(input_ids=own, use_cache=False).logits[:, :-1].double().cpu().numpy())
        for own in (ids, other)
    )
    return _is_close(model, first, second)


def _candidates(best: Sharing) -> Iterator[Sharing]:
    """The possible sharings, each once, from the most sharing to none."""
    nothing = Sharing(trees=False, levels=False, packing=False)
    order = [
        best,
        replace(best, packing=False),
        replace(best, trees=False),
        replace(best, trees=False, packing=False),
        nothing,
    ]
    yield from dict.fromkeys(order)


def _check_queries(model: PreTrainedModel, deepest: int) -> list[ScoringQuery]:
    """Two queries with two options each, all sequences of one length, at four levels."""
    vocabulary: int = text_config(model).vocab_size
    levels = tuple(sorted({0, min(1, deepest), (deepest + 1) // 2, deepest}))
    ids = [3 + n * 7919 % (vocabulary - 3) for n in range(20)]
    first, second = (*ids[:4], ids[4], ids[5]), (*ids[:4], ids[6], ids[7])
    return [
        ScoringQuery(prompt, (tuple(ids[n : n + 3]), tuple(ids[n + 3 : n + 6])), levels)
        for prompt, n in ((first, 8), (second, 14))
    ]


@torch.inference_mode()
def _plain_log_likelihoods(
    model: PreTrainedModel, unit: Unit, queries: Sequence[ScoringQuery], known: LevelRange
) -> list[FloatArray]:
    """For each query an array [levels, options], from a pass for each level."""
    sequences = [(*query.prompt, *option) for query in queries for option in query.options]
    ids = torch.tensor(sequences, device=model.device)
    start = len(queries[0].prompt) - 1
    by_level = []
    for level in queries[0].levels:
        lacked = removed_parts(check_order(known), level, known.layer_count)
        with removed(model, lacked, unit), matmul_precision(model):
            logits = model(input_ids=ids, use_cache=False).logits
        steps = logits[:, start:-1].float().log_softmax(-1)
        tokens = ids[:, start + 1 :, None]
        by_level.append(steps.gather(-1, tokens)[..., 0].sum(-1).double().cpu().numpy())
    values = np.array(by_level).reshape(len(by_level), len(queries), -1)
    return [values[:, n] for n in range(len(queries))]


def _is_close(model: PreTrainedModel, found: FloatArray, expected: FloatArray) -> bool:
    """Whether two results differ by no more than rounding explains in the model's format."""
    is_rounded = (
        model.dtype != torch.float32
        or hasattr(model, MATMUL_PRECISION_ATTRIBUTE)
        or getattr(model, "is_quantized", False)
    )
    absolute, relative = (5e-2, 2e-2) if is_rounded else (1e-3, 1e-4)
    return bool(np.allclose(found, expected, atol=absolute, rtol=relative))


def _parts(blocks: Sequence[DecoderBlock]) -> Iterator[BlockPart]:
    for block in blocks:
        yield from block.parts
