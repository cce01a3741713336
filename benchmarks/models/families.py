"""Every causal-LM class of the installed transformers: exact, refused, or not built.

    python -m benchmarks.models.families
    python -m benchmarks.models.families qwen3_next gemma4_text

A tiny random model of each class (`tiny_decoders`) runs in a process of its own, so that one
failure does not stop the walk. For each unit of the model:

- the nested pass over all levels equals one plain pass for each level and option;
- a removal equals zeroed output weights, and a removal of experts a model without them;
- the model is whole afterwards, to the last bit.

A class is `exact` if all of this holds, `refused` if PruneLake says that it does not support the
class, `wrong` if numbers differ, and `traceback` if another error is raised.
"""

import argparse
import copy
import json
import os
import random
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from benchmarks.models.tiny_decoders import VOCABULARY, build_tiny, causal_types, wrapper_types
from prunelake.errors import UnsupportedModel
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.decoder.block_parts import BlockPart
from prunelake.models.decoder.calls import first_value, with_first_value
from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.decoder.experts import expert_mixtures
from prunelake.models.decoder.level_range import LevelRange, level_range
from prunelake.models.expert_deletion import smaller_model
from prunelake.models.removal import detached, removed, zero_out
from prunelake.schema.arrays import FloatArray
from prunelake.spec import UNIT_NAMES, Unit, removed_parts

CPU_SECONDS = 60
MEMORY_BYTES = 6 * 2**30
TOLERANCE = 1e-3


def main() -> None:
    """Print a table: each class, its result and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="model types; all by default")
    parser.add_argument("--wrappers", action="store_true", help="multimodal models instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for model_type in options.types or (wrapper_types() if options.wrappers else causal_types()):
        result = in_process(model_type)
        counts[result["result"]] += 1
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print(f"{model_type:28} {result['result']:10} {result['reason']}", flush=True)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {dict(counts)}")


def in_process(model_type: str) -> dict[str, Any]:
    """The result of a class, from a process that is forked for it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        os.write(writer, json.dumps(examine(model_type)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if answer:
        result: dict[str, Any] = json.loads(answer)
        return result
    return {"type": model_type, "result": "not built", "reason": f"its process died ({status})"}


def examine(model_type: str) -> dict[str, Any]:
    """The result of a class: its name, its result, the reason and what its levels share."""
    result: dict[str, Any] = {"type": model_type, "class": "", "layout": ""}
    try:
        model = build_tiny(model_type)
        with torch.inference_mode():
            model(input_ids=torch.arange(3, 12)[None], use_cache=False)
    except Exception as error:  # any failure means not built
        return result | {"result": "not built", "reason": _one_line(error)}
    result["class"] = type(model).__name__
    try:
        return result | check(model)
    except UnsupportedModel as error:
        return result | {"result": "refused", "reason": str(error)}
    except Exception as error:  # the walk reports it
        return result | {"result": "traceback", "reason": _one_line(error)}


def check(model: PreTrainedModel) -> dict[str, Any]:
    """The result, the reason and the layout of a model that was built."""
    blocks = decoder_blocks(model)
    layout = Counter(" + ".join(part.kind for part in block.parts) for block in blocks)
    shared: dict[str, str] = {}
    refused: list[str] = []
    for unit in UNIT_NAMES:
        try:
            known = level_range(model, unit)
        except UnsupportedModel as error:
            refused.append(str(error))
            continue
        if unit == "expert":
            without, is_portable = _deleted_deviation(model, known)
        else:
            without, is_portable = _zeroed_deviation(model, unit, known.layer_count)
        deviation = max(_nested_deviation(model, unit, known), without)
        if not deviation < TOLERANCE:
            return {"result": "wrong", "reason": f"{unit}: off by {deviation:.3g}"}
        sharing = NestedModel(model, (), unit=unit).sharing
        shared[unit] = ", ".join(n for n in ("trees", "levels", "packing") if getattr(sharing, n))
        if not is_portable:
            shared[unit] += " (no portable checkpoint)"
    if not shared:
        return {"result": "refused", "reason": refused[0]}
    return {
        "result": "exact",
        "reason": "; ".join(f"{unit}: {own or 'separate rows'}" for unit, own in shared.items()),
        "layout": "; ".join(f"{count} x {parts}" for parts, count in layout.items()),
        "sharing": shared,
    }


def _queries(count: int, levels: int) -> list[ScoringQuery]:
    draw = random.Random(0)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, VOCABULARY) for _ in range(draw.randint(low, high)))

    found: list[ScoringQuery] = []
    for n in range(count):
        own_levels = tuple(sorted(draw.sample(range(levels + 1), draw.randint(1, levels + 1))))
        prompt = (*found[-1].prompt[:4], *tokens(1, 4)) if n % 2 else tokens(4, 12)
        options = tuple(tokens(1, 5) for _ in range(draw.randint(1, 3)))
        found.append(ScoringQuery(prompt, options, own_levels))
    return found


@torch.inference_mode()
def _nested_deviation(model: PreTrainedModel, unit: Unit, known: LevelRange) -> float:
    """The largest difference between a nested pass and plain passes, in nats."""
    before = _logits(model)
    order = _random_order(known)
    queries = _queries(4, known.deepest)
    nested = NestedModel(model, order, token_budget=200, unit=unit)
    found = [*nested.log_likelihoods(queries), *nested.log_likelihoods(queries[:1])]
    expected = [_plain(model, query, order, unit, known) for query in (*queries, queries[0])]
    if not torch.equal(before, _logits(model)):
        return float("inf")
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


def _random_order(known: LevelRange) -> tuple[int, ...]:
    """A removal order: layers, or for each round an expert of each block."""
    draw = random.Random(1)
    count = known.layer_count
    by_block = [
        [first + n for n in draw.sample(range(count), count)]
        for first in range(0, known.part_count, count)
    ]
    return tuple(part for own in zip(*by_block, strict=True) for part in own)


def _plain(
    model: PreTrainedModel,
    query: ScoringQuery,
    order: Sequence[int],
    unit: Unit,
    known: LevelRange,
) -> FloatArray:
    answers = np.zeros((len(query.levels), len(query.options)))
    for row, level in enumerate(query.levels):
        with removed(model, removed_parts(order, level, known.layer_count), unit):
            for column, option in enumerate(query.options):
                ids = torch.tensor([[*query.prompt, *option]])
                steps = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
                start = len(query.prompt) - 1
                answers[row, column] = sum(
                    steps[start + n, token].item() for n, token in enumerate(option)
                )
    return answers


@torch.inference_mode()
def _deleted_deviation(model: PreTrainedModel, known: LevelRange) -> tuple[float, bool]:
    """The largest difference of a logit between a removal of experts and a smaller model.

    The biases with which routers choose are random, as in a trained model.
    """
    largest, is_portable = 0.0, True
    generator = torch.Generator().manual_seed(0)
    for mixture in expert_mixtures(model):
        for buffer in mixture.part.module.buffers():
            if buffer.shape[-1:] == (mixture.count,) and buffer.is_floating_point():
                buffer += torch.randn(buffer.shape, generator=generator)
    before = _logits(model)
    for level in {1, known.deepest}:
        numbers = removed_parts(_random_order(known), level, known.layer_count)
        try:
            expected = _logits(smaller_model(model, numbers))
        except UnsupportedModel:
            is_portable = False
            with detached(model, numbers, "expert"):
                expected = _logits(model)
        if torch.equal(expected, before):
            return float("inf"), is_portable
        for without in (removed, detached):
            with without(model, numbers, "expert"):
                largest = max(largest, float((expected - _logits(model)).abs().max()))
    return largest, is_portable


@torch.inference_mode()
def _zeroed_deviation(model: PreTrainedModel, unit: Unit, count: int) -> tuple[float, bool]:
    """The largest difference of a logit between a removal and zeros, and whether weights are zero.

    If a part has no weights that could be zero, a hook replaces its output by zeros.
    """
    largest, is_portable = 0.0, True
    for layers in ([0], [count - 1], [*range(count)]):
        try:
            zeroed = copy.deepcopy(model)
            zero_out(zeroed, layers, unit)
            expected = _logits(zeroed)
        except UnsupportedModel:
            is_portable = False
            expected = _logits_with_hooks(model, layers, unit)
        with removed(model, layers, unit):
            largest = max(largest, float((expected - _logits(model)).abs().max()))
        if len(layers) == count and torch.equal(expected, _logits(model)):
            return float("inf"), is_portable  # a removal without effect shows nothing
    return largest, is_portable


def _logits_with_hooks(model: PreTrainedModel, layers: Sequence[int], unit: Unit) -> torch.Tensor:
    """Logits while hooks replace the outputs of the parts of these layers by zeros."""
    running = [-1]

    def enter(position: int) -> None:
        running[0] = position

    def silence(part: BlockPart, output: Any) -> Any:
        if running[0] != part.block:
            return output
        return with_first_value(output, torch.zeros_like(first_value(output)))

    blocks = decoder_blocks(model)
    hooks = [
        block.module.register_forward_pre_hook(lambda *_, n=n: enter(n))
        for n, block in enumerate(blocks)
    ]
    for layer in layers:
        hooks += [
            part.module.register_forward_hook(lambda _, __, output, p=part: silence(p, output))
            for part in removable_parts(model, unit)[layer]
        ]
    try:
        return _logits(model)
    finally:
        for hook in hooks:
            hook.remove()


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(
            input_ids=torch.arange(3, 25).view(2, 11), use_cache=False
        ).logits
    return logits


def _one_line(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({place})"


if __name__ == "__main__":
    main()
