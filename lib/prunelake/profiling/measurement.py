"""Measure the cost of each level of a model: weights, KV cache, speed and memory."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.profiler import profile
from transformers import Cache, PreTrainedModel

from prunelake.errors import InvalidSpec, ModelError, UnsupportedModel, one_line
from prunelake.models.decoder.decoder_probe import apply_lm_head, cache_argument, probe_decoder
from prunelake.models.decoder.level_range import level_range
from prunelake.models.decoder.text_model import context_length, spread_token_ids, text_config
from prunelake.models.gpu.memory import is_out_of_memory
from prunelake.models.gpu.placement import model_devices
from prunelake.models.levels import resolve_levels
from prunelake.models.precision import matmul_precision
from prunelake.models.removal import detached
from prunelake.spec import FrozenValue, Unit, removed_parts

STEPS_BEFORE_CAPTURE = 3

PositiveInt32 = Annotated[int, Field(ge=1, lt=2**31)]


class Workload(FrozenValue):
    """The computation that is timed, `repeats` times.

    Prefill: one pass over `batch` sequences of `prompt_tokens` tokens, with the logits of the last
    token. Decode: then `new_tokens` tokens for each sequence, one after the other.
    """

    batch: PositiveInt32 = 1
    prompt_tokens: PositiveInt32 = 512
    new_tokens: PositiveInt32 = 32
    repeats: PositiveInt32 = 5


def check_measurable(
    levels: Sequence[int],
    layer_count: int,
    workload: Workload,
    context_length: int,
    unit: Unit,
    deepest: int | None = None,
) -> None:
    """Check that a model has these levels and that the workload fits into its context.

    Raises:
        UnknownLayer: as `levels.resolve_levels`.
        InvalidSpec: prompt and new tokens exceed `context_length` tokens.
    """
    resolve_levels(levels, layer_count, unit, deepest)
    tokens = workload.prompt_tokens + workload.new_tokens
    if tokens > context_length:
        raise InvalidSpec(
            f"{workload.prompt_tokens} prompt tokens and {workload.new_tokens} new tokens are "
            f"{tokens}; the model's context has {context_length}"
        )


def measure_levels(
    model: PreTrainedModel,
    order: Sequence[int],
    levels: Sequence[int],
    workload: Workload,
    log: Callable[[str], None],
    unit: Unit = "attention",
) -> list[dict[str, Any]]:
    """One row of `efficiency` for each level, without `profile_id`.

    The removed modules are really absent (`removal.detached`). Each level runs once before the
    timing starts. Then each repeat runs all levels, alternately upwards and downwards, so that a
    slow phase of the machine slows all levels alike.

    - `parameter_count`, `weight_bytes`: the remaining parameters; tied parameters count once.
    - `kv_bytes_per_token`: bytes of the keys and values of one token of one sequence, over all
      layers, while no sliding window is full; from the shapes of the cache's own tensors.
    - `prefill_seconds`, `decode_seconds`: one number for each repeat (see `Workload`). On a GPU the
      decode repeats one step at the end of the prompt, as a CUDA graph.
    - `peak_bytes`: on CUDA the peak of torch's allocator during one prefill and decode, with the
      removed weights moved off the device. The allocator of a CPU does not report a peak; there it
      is the size of the parameters and buffers plus the peak of torch's other tensors, without
      scratch memory of math libraries and of Python.

    Raises:
        UnknownLayer, InvalidSpec: as `check_measurable`.
        UnsupportedModel: as `removal.detached`.
        ModelError: the workload does not fit into memory.
    """
    longest = context_length(text_config(model))
    known = level_range(model, unit)
    check_measurable(levels, known.layer_count, workload, longest, unit, known.deepest)
    removed = {level: removed_parts(order, level, known.layer_count) for level in levels}
    rows: dict[int, dict[str, Any]] = {}
    try:
        with matmul_precision(model):
            for level in levels:
                log(f"level {level}: weights, cache and memory")
                rows[level] = _measure_sizes(model, removed[level], workload, unit) | {
                    "level": level,
                    "prefill_seconds": [],
                    "decode_seconds": [],
                }
            for repeat in range(workload.repeats):
                log(f"repeat {repeat + 1} of {workload.repeats}: speed of {len(levels)} levels")
                for level in levels if repeat % 2 == 0 else reversed(levels):
                    with detached(model, removed[level], unit):
                        timed = _generate(model, workload, replays=can_replay(model))
                    rows[level]["prefill_seconds"].append(timed.prefill_seconds)
                    rows[level]["decode_seconds"].append(timed.decode_seconds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{workload.batch} sequences of {workload.prompt_tokens} tokens do not fit into memory "
            f"({one_line(error)}); take fewer or shorter sequences"
        ) from error
    return [rows[level] for level in levels]


@dataclass(frozen=True)
class _TimedGeneration:
    prefill_seconds: float
    decode_seconds: float
    cache: Cache


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, workload: Workload, replays: bool = False
) -> _TimedGeneration:
    """One prefill and one decode, always with the most probable next token.

    If it `replays`, the decode repeats one step at the end of the prompt, as a CUDA graph. In eager
    mode a GPU waits for the launch of each kernel. For a few sequences the launches take longer
    than the kernels, at every level.
    """
    prompt = spread_token_ids(model, (workload.batch, workload.prompt_tokens))
    started = _synchronised_time(model)
    token, cache = _next_token(model, prompt, {})
    prefilled = _synchronised_time(model)
    step, began = None, prefilled
    if replays:
        step = _captured_step(model, token, cache)
        began = _synchronised_time(model)
    for _ in range(workload.new_tokens):
        if step:
            step()
        else:
            token, cache = _next_token(model, token, cache)
    seconds = _synchronised_time(model) - began
    return _TimedGeneration(prefilled - started, seconds, next(iter(cache.values())))


def can_replay(model: PreTrainedModel) -> bool:
    """Whether a decode step of the model can be a CUDA graph: the model is on one GPU."""
    return [device.type for device in model_devices(model)] == ["cuda"]


def _captured_step(
    model: PreTrainedModel, token: Tensor, cache: dict[str, Any]
) -> Callable[[], None]:
    """A function that computes one decode step; each call takes one launch."""
    # A graph is captured after some steps on another stream, as torch requires.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(STEPS_BEFORE_CAPTURE):
            token, cache = _next_token(model, token, cache)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _next_token(model, token, cache)
    replay: Callable[[], None] = graph.replay
    return replay


def _next_token(
    model: PreTrainedModel, ids: Tensor, cache: dict[str, Any]
) -> tuple[Tensor, dict[str, Any]]:
    """The next token [batch, 1] of each sequence, and the cache, by its name, that holds `ids`."""
    answer = probe_decoder(model).trunk(input_ids=ids, use_cache=True, **cache)
    logits = apply_lm_head(model, answer.last_hidden_state[:, -1:])
    filled = cache_argument(answer)
    if not filled:
        raise UnsupportedModel(
            f"{type(model).__name__} hands out no cache, so its decoding cannot be measured"
        )
    return logits.argmax(-1), filled


def _synchronised_time(model: PreTrainedModel) -> float:
    """A time in seconds, taken when the device has finished all its work."""
    for device in model_devices(model):
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
    return time.perf_counter()


def _measure_sizes(
    model: PreTrainedModel, layers: Sequence[int], workload: Workload, unit: Unit
) -> dict[str, Any]:
    with detached(model, layers, unit) as detached_modules:
        cache = _generate(model, workload).cache
        parameters = [*model.parameters()]
        sizes = {
            "parameter_count": sum(p.numel() for p in parameters),
            "weight_bytes": sum(p.nbytes for p in parameters),
            "kv_bytes_per_token": kv_bytes_per_token(cache),
        }
        del cache  # else its memory would count in the peak
        return sizes | {"peak_bytes": _peak_bytes(model, detached_modules, workload)}


def _peak_bytes(
    model: PreTrainedModel, detached_modules: Sequence[nn.Module], workload: Workload
) -> int | None:
    """See `measure_levels`; None on a device that is neither a CPU nor a CUDA device."""
    if model.device.type == "cuda":
        return _peak_bytes_on_gpu(model, detached_modules, workload)
    if model.device.type != "cpu":
        return None
    # Without this setting the profiler writes lines to the terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(profile_memory=True) as recorded:
        _generate(model, workload)
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    beyond = max(accumulate(event.nbytes() for event in events), default=0)
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers())) + beyond


def _peak_bytes_on_gpu(
    model: PreTrainedModel, detached_modules: Sequence[nn.Module], workload: Workload
) -> int:
    # Not in inference mode: weights that move in it can take no part in a later backward pass.
    homes = [
        next((p.device for p in module.parameters()), model.device) for module in detached_modules
    ]
    try:
        for module in detached_modules:
            module.to("cpu")
        devices = model_devices(model)
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
        _generate(model, workload)
        return sum(torch.cuda.max_memory_allocated(device) for device in devices)
    finally:
        for module, device in zip(detached_modules, homes, strict=True):
            module.to(device)


def kv_bytes_per_token(cache: Cache) -> int:
    """Bytes of one token of one sequence in a cache, from the shapes of the cache's tensors."""
    total = 0
    layers: list[Any] = cache.layers
    for layer in layers:
        keys_and_values = getattr(layer, "keys", None), getattr(layer, "values", None)
        for tensor in keys_and_values:  # [rows, heads, tokens, width]; None in a recurrent layer
            if tensor is None:
                continue
            total += tensor.shape[1] * tensor.shape[3] * tensor.element_size()
    return total
