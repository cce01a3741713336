"""The times and the peak memory of each level; the model is left as it was."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import InvalidSpec, UnknownLayer
from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.removal import detached
from prunelake.profiling import measurement
from tests.support.models.measured_levels import SMALL, logits, measured
from tests.support.models.tiny_models import (
    VOCABULARY,
    tiny_model,
)


def test_peak_memory_includes_weights_and_cache() -> None:
    model = tiny_model("llama")
    rows = measured(model, (0, 5))
    tokens = SMALL.batch * (SMALL.prompt_tokens + SMALL.new_tokens)
    for row in rows:
        least = row["weight_bytes"] + row["kv_bytes_per_token"] * tokens
        assert least < row["peak_bytes"] < 2 * least
    gone = rows[0]["weight_bytes"] - rows[1]["weight_bytes"]
    assert rows[0]["peak_bytes"] - rows[1]["peak_bytes"] >= gone


def test_a_measurement_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    measured(tiny_model("llama"), (0, 1))
    assert capfd.readouterr() == ("", "")


def test_peak_memory_includes_a_temporary_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    (before,) = measured(model, (0,))
    real = measurement._next_token

    def wasteful(*arguments: Any) -> Any:
        torch.zeros(1_000_000)
        return real(*arguments)

    monkeypatch.setattr(measurement, "_next_token", wasteful)
    (row,) = measured(model, (0,))
    assert 3_500_000 < row["peak_bytes"] - before["peak_bytes"] <= 4_000_000


@pytest.mark.parametrize("fails", [False, True])
def test_peak_memory_on_cuda_excludes_the_removed_weights(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    did: list[str] = []

    class Module:
        device = torch.device("cuda", 1)

        def to(self, device: Any) -> None:
            did.append(f"to {device}")

        def parameters(self) -> Any:
            return iter([self])

    class Model(Module):
        pass

    def run(*_: Any) -> None:
        did.append("run")
        if fails:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(measurement, "_generate", run)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda _: did.append("reset"))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: 12_345)
    model, gone = cast(PreTrainedModel, Model()), cast(list[nn.Module], [Module()])
    with pytest.raises(torch.OutOfMemoryError) if fails else nullcontext():
        assert measurement._peak_bytes(model, gone, SMALL) == 12_345
    assert did == ["to cpu", "reset", "run", "to cuda:1"]


def test_weights_that_left_the_gpu_still_take_part_in_a_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: 12_345)
    monkeypatch.setattr(measurement, "_peak_bytes", measurement._peak_bytes_on_gpu)

    def move(module: nn.Module, _: Any) -> nn.Module:
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()  # as from one device to another
        return module

    monkeypatch.setattr(nn.Module, "to", move)
    assert [row["peak_bytes"] for row in measured(model, (0, 2))] == [12_345] * 2
    embeddings = torch.zeros(1, 4, 32, requires_grad=True)
    model(inputs_embeds=embeddings, use_cache=False).logits.sum().backward()


def test_levels_take_turns_upwards_and_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the unpruned model takes 7 s of this clock, a step of the pruned model 3 s."""
    model = tiny_model("llama")
    seconds, ran, real = 0, [], measurement._next_token

    def step(model: PreTrainedModel, tokens: Tensor, cache: Any) -> Any:
        nonlocal seconds
        is_whole = all(
            any(True for _ in part.module.parameters())
            for (part,) in removable_parts(model, "attention")
        )
        seconds += 7 if is_whole else 3
        if not cache:
            ran.append((is_whole, tokens.shape))
        return real(model, tokens, cache)

    monkeypatch.setattr(measurement, "_next_token", step)
    monkeypatch.setattr(measurement, "_synchronised_time", lambda _: seconds)
    rows = measured(model, (0, 1), SMALL.model_copy(update={"repeats": 3}))
    assert [row["prefill_seconds"] for row in rows] == [[7] * 3, [3] * 3]
    assert [row["decode_seconds"] for row in rows] == [[21] * 3, [9] * 3]
    warm = [True, True, False, False]
    assert [whole for whole, _ in ran] == [*warm, True, False, False, True, True, False]
    assert {shape for _, shape in ran} == {(2, 6)}


def test_a_gpu_decodes_by_replays_of_one_captured_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, did = tiny_model("llama"), list[str]()
    real = measurement._next_token

    class Graph:
        def replay(self) -> None:
            did.append("replay")

    class Stream:
        def wait_stream(self, _: Any) -> None:
            did.append("wait")

    @contextmanager
    def capture(_: Graph) -> Iterator[None]:
        did.append("begin")
        yield
        did.append("end")

    def step(*given: Any) -> Any:
        did.append("step" if given[2] else "prefill")
        return real(*given)

    monkeypatch.setattr(measurement, "_next_token", step)
    for name, double in {
        "CUDAGraph": Graph,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda _: nullcontext(),
        "graph": capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, double)
    clock = iter(range(10))
    monkeypatch.setattr(measurement, "_synchronised_time", lambda _: next(clock))
    timed = measurement._generate(model, SMALL, replays=True)
    warm = ["step"] * measurement.STEPS_BEFORE_CAPTURE
    captured = ["wait", *warm, "wait", "begin", "step", "end"]
    assert did == ["prefill", *captured, *["replay"] * SMALL.new_tokens]
    assert (timed.prefill_seconds, timed.decode_seconds) == (1, 1)  # no time of the capture


@pytest.mark.parametrize(
    ("places", "expected"), [(["cuda:0"], True), (["cuda:0", "cuda:1"], False), (["cpu"], False)]
)
def test_only_a_model_on_one_gpu_replays_its_steps(places: list[str], expected: bool) -> None:
    class Model:
        def parameters(self) -> list[Any]:
            return [SimpleNamespace(device=torch.device(place)) for place in places]

    assert measurement.can_replay(cast(PreTrainedModel, Model())) is expected


def test_decoding_gives_the_tokens_of_the_model() -> None:
    model = tiny_model("llama")
    prompt = (torch.arange(1, 13) * 7919).view(2, 6) % VOCABULARY
    expected = prompt
    with detached(model, (0,)):
        run = measurement._generate(model, SMALL)
        for _ in range(SMALL.new_tokens):
            expected = torch.cat([expected, logits(model, expected)[:, -1:].argmax(-1)], dim=1)
        keys = run.cache.layers[1].keys  # type: ignore[union-attr]  # a growing layer
        with torch.inference_mode():
            whole = model(input_ids=expected, use_cache=True).past_key_values.layers[1].keys
    torch.testing.assert_close(keys, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [-1, 6])
def test_an_unknown_level_is_refused(level: int) -> None:
    with pytest.raises(UnknownLayer, match=f"level {level}: the model has 5 attention"):
        measured(tiny_model("llama"), (0, level))


def test_more_tokens_than_the_context_are_refused() -> None:
    workload = SMALL.model_copy(update={"prompt_tokens": 126})
    with pytest.raises(InvalidSpec, match=r"126 prompt tokens and 3 new tokens are 129.*has 128"):
        measured(tiny_model("llama"), (0,), workload)


def test_the_model_is_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    weights = copy.deepcopy(model.state_dict())

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(measurement, "_next_token", fail)
    with pytest.raises(ZeroDivisionError):
        measured(model, (2,))
    assert [*model.state_dict()] == [*weights]
