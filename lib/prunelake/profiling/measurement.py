"""What a model costs without a unit of some layers: weights, cache, speed and memory, by level."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.profiler import profile
from transformers import Cache, PreTrainedModel

from prunelake.errors import InvalidSpec, ModelError, UnknownLayer, one_line
from prunelake.models.decoder_map import attention_layers
from prunelake.models.loading import apply_lm_head, text_config
from prunelake.models.precision import matmul_precision
from prunelake.models.removal import detached
from prunelake.schema.profile_tables import EFFICIENCY, PROFILE_SUBJECT
from prunelake.spec import Dtype, FrozenValue, Strategy, Unit, content_hash

PositiveInt32 = Annotated[int, Field(ge=1, lt=2**31)]
Say = Callable[[str], None]


class Workload(FrozenValue):
    """What is computed: `batch` sequences of `prompt_tokens` tokens in one pass, with the logits of
    the last one (prefill), then `new_tokens` tokens one after the other (decode), and all of that
    `repeats` times."""

    batch: PositiveInt32 = 1
    prompt_tokens: PositiveInt32 = 512
    new_tokens: PositiveInt32 = 32
    repeats: PositiveInt32 = 5


@dataclass(frozen=True)
class ProfiledModel:
    """Which model without what: level k lacks the strategy's unit of the first k of `order`."""

    reference: str
    revision: str
    architecture: str
    strategy: Strategy
    order: tuple[int, ...]
    dtype: Dtype


def check_measurable(
    levels: Sequence[int], order: Sequence[int], load: Workload, context: int
) -> None:
    """Raise unless all of that can be measured.

    Raises:
        UnknownLayer: a level beyond the layers of the order.
        InvalidSpec: more tokens than the model's `context`.
    """
    for level in levels:
        if not 0 <= level <= len(order):
            raise UnknownLayer(f"level {level}: the removal order has levels 0 to {len(order)}")
    tokens = load.prompt_tokens + load.new_tokens
    if tokens > context:
        raise InvalidSpec(
            f"{load.prompt_tokens} prompt tokens and {load.new_tokens} new ones are {tokens}; the "
            f"model's context has {context}"
        )


@torch.inference_mode()
def measure_levels(
    model: PreTrainedModel,
    order: Sequence[int],
    levels: Sequence[int],
    load: Workload,
    say: Say,
    unit: Unit = "attention",
) -> list[dict[str, Any]]:
    """A row of `efficiency` for each level, without `profile_id`.

    What is removed is really gone (`removal.detached`). Each level runs once before anything
    is timed. Then all levels run in each repeat, upwards and downwards in turn, so that what slows
    the machine for a while slows all of them.

    - `parameter_count`, `weight_bytes`: of the parameters that are left, tied ones once;
    - `kv_bytes_per_token`: keys and values of one token of one sequence, over all layers, as long
      as no sliding window is full; from the cache's own tensors;
    - `prefill_seconds`, `decode_seconds`: a number a repeat, as `Workload` says;
    - `peak_bytes`: on CUDA what its allocator had given out at most during one prefill and decode,
      the removed weights moved away. On a CPU, whose allocator does not tell, the parameters and
      buffers, and the most that torch's tensors took beyond them: that of a library's own scratch
      memory, and of Python, is not in it.

    Raises:
        UnknownLayer, InvalidSpec: as `check_measurable`.
        UnsupportedModel: as `removal.detached`.
        ModelError: too little memory.
    """
    check_measurable(levels, order, load, text_config(model).max_position_embeddings)
    rows: dict[int, dict[str, Any]] = {}
    try:
        with matmul_precision(model):
            for level in levels:
                say(f"level {level}: weights, cache and memory")
                rows[level] = _measure_sizes(model, order[:level], load, unit) | {
                    "level": level,
                    "prefill_seconds": [],
                    "decode_seconds": [],
                }
            for repeat in range(load.repeats):
                say(f"repeat {repeat + 1} of {load.repeats}: speed of {len(levels)} levels")
                for level in levels if repeat % 2 == 0 else reversed(levels):
                    with detached(model, order[:level], unit):
                        run = _generate(model, load)
                    rows[level]["prefill_seconds"].append(run.prefill_seconds)
                    rows[level]["decode_seconds"].append(run.decode_seconds)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{load.batch} sequences of {load.prompt_tokens} tokens do not fit into memory "
            f"({one_line(error)}); take fewer"
        ) from error
    return [rows[level] for level in levels]


def profile_record(
    subject: ProfiledModel,
    model: PreTrainedModel,
    load: Workload,
    load_average: float,
    rows: Sequence[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """What `commit.write_profile` takes: the row of `profiles`, and the rows of `measure_levels`.

    `load_average` is that of `system_load_average` before the measuring.
    """
    row: dict[str, Any] = {
        "created_at": datetime.now(UTC),
        "model": subject.reference,
        "revision": subject.revision,
        "architecture": subject.architecture,
        "strategy": subject.strategy.label,
        "layer_count": len(attention_layers(model)),
        "removal_order": [*subject.order],
        "levels": [found["level"] for found in rows],
        "dtype": subject.dtype,
        "device": str(model.device),
        "device_name": device_name(model.device),
        "threads": torch.get_num_threads(),
        "load_average": load_average,
        "torch_version": torch.__version__,
        "code_version": version("prunelake"),
        **load.model_dump(),
    }
    told = {name: row[name] for name in PROFILE_SUBJECT} | {
        "created_at": row["created_at"].isoformat()
    }
    profile_id = content_hash(told)[:16]
    frame = EFFICIENCY.frame([{"profile_id": profile_id, **found} for found in rows])
    return {"profile_id": profile_id, **row}, {"efficiency": frame}


def system_load_average() -> float:
    """How many processes of this machine wanted a core at once, over the last minute."""
    return os.getloadavg()[0]


def device_name(device: torch.device) -> str:
    """What a device is called; a CPU with the number of its threads that compute."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_model_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _cpu_model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@dataclass(frozen=True)
class _TimedGeneration:
    prefill_seconds: float
    decode_seconds: float
    cache: Cache


def _generate(model: PreTrainedModel, load: Workload) -> _TimedGeneration:
    """One prefill and decode, each next token the most probable one."""
    # What the tokens are costs nothing: these are from all over the vocabulary.
    ids = torch.arange(1, load.batch * load.prompt_tokens + 1, device=model.device) * 7919
    prompt = ids.view(load.batch, -1) % text_config(model).vocab_size
    started = _synchronised_time(model)
    token, cache = _next_token(model, prompt, None)
    prefilled = _synchronised_time(model)
    for _ in range(load.new_tokens):
        token, cache = _next_token(model, token, cache)
    return _TimedGeneration(prefilled - started, _synchronised_time(model) - prefilled, cache)


def _next_token(model: PreTrainedModel, ids: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """The next token [batch, 1] of each sequence, and the cache with what was read."""
    answer = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    logits = apply_lm_head(model, answer.last_hidden_state[:, -1:])
    return logits.argmax(-1), answer.past_key_values


def _synchronised_time(model: PreTrainedModel) -> float:
    """Seconds, when all that was asked for is computed."""
    if model.device.type != "cpu":
        torch.accelerator.synchronize(model.device)
    return time.perf_counter()


def _measure_sizes(
    model: PreTrainedModel, layers: Sequence[int], load: Workload, unit: Unit
) -> dict[str, Any]:
    with detached(model, layers, unit) as gone:
        cache = _generate(model, load).cache
        parameters = [*model.parameters()]
        found = {
            "parameter_count": sum(p.numel() for p in parameters),
            "weight_bytes": sum(p.nbytes for p in parameters),
            "kv_bytes_per_token": kv_bytes_per_token(cache),
        }
        del cache  # its memory is not that of the next run
        return found | {"peak_bytes": _peak_bytes(model, gone, load)}


def _peak_bytes(model: PreTrainedModel, gone: Sequence[nn.Module], load: Workload) -> int | None:
    """As `measure_levels` says; None on a device that is neither a CPU nor of CUDA."""
    if model.device.type == "cuda":
        try:
            for module in gone:
                module.to("cpu")
            torch.cuda.reset_peak_memory_stats(model.device)
            _generate(model, load)
            return torch.cuda.max_memory_allocated(model.device)
        finally:
            for module in gone:
                module.to(model.device)
    if model.device.type != "cpu":
        return None
    # Else it writes lines of its own to the terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(profile_memory=True) as recorded:
        _generate(model, load)
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    beyond = max(accumulate(event.nbytes() for event in events), default=0)
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers())) + beyond


def kv_bytes_per_token(cache: Cache) -> int:
    """Bytes that one more token of one sequence takes, by the shapes of a cache's tensors."""
    total = 0
    layers: list[Any] = cache.layers
    for layer in layers:
        for held in (layer.keys, layer.values):  # [rows, heads, tokens, width]
            total += held.shape[1] * held.shape[3] * held.element_size()
    return total
