"""Detached modules leave the logits unchanged; sizes, times and peak memory of each level."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from prunelake.errors import InvalidSpec, UnknownLayer
from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.removal import detached, removed
from prunelake.profiling import measurement
from prunelake.profiling.measurement import Workload, kv_bytes_per_token, measure_levels
from prunelake.recommend.sizes import size_shares
from prunelake.spec import Unit
from tests.support.models.tiny_models import (
    LAYER_COUNT,
    SHORT_FAMILIES,
    UNITS,
    VOCABULARY,
    tiny_model,
)

CHOICES = {"block 0": (0, 3), "later ones": (1, 2), "all": tuple(range(LAYER_COUNT))}
KV_BYTES = 2 * 2 * 8 * 4  # of a layer: keys and values, heads, width, bytes of float32
SMALL = Workload(batch=2, prompt_tokens=6, new_tokens=3, repeats=2)


@pytest.fixture(params=SHORT_FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ids(tokens: int = 12) -> Tensor:
    return torch.randint(3, VOCABULARY, (2, tokens), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    output: Tensor = model(input_ids=tokens, use_cache=False).logits
    return output


@torch.inference_mode()
def decoded(model: PreTrainedModel, tokens: Tensor, first: int = 5) -> tuple[Tensor, DynamicCache]:
    """The logits and the cache of decoding: `first` tokens at once, then one by one."""
    cache, found = None, []
    for part in torch.split(tokens, [first, *[1] * (tokens.shape[1] - first)], dim=1):
        answer = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        found.append(answer.logits)
    assert isinstance(cache, DynamicCache)
    return torch.cat(found, dim=1), cache


@pytest.mark.parametrize("layers", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("unit", UNITS)
def test_cached_decoding_equals_the_model_with_these_layers_removed(
    family: str, layers: tuple[int, ...], unit: Unit
) -> None:
    model = tiny_model(family)
    with removed(model, layers, unit):
        expected = logits(model, ids())
    with detached(model, layers, unit):
        assert torch.equal(logits(model, ids()), expected)
        found, cache = decoded(model, ids())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert cache.get_seq_length() == ids().shape[1]


def test_detached_weights_are_no_parameters_and_come_back(family: str) -> None:
    model = tiny_model(family)
    before, names = logits(model, ids()), [*model.state_dict()]
    attentions = [part.module for (part,) in removable_parts(model, "attention")]
    within = {id(p) for number in (0, 3) for p in attentions[number].parameters()}
    with suppress(ZeroDivisionError), detached(model, (3, 0)) as gone:
        assert gone == [attentions[0], attentions[3]]
        left = {id(parameter) for parameter in model.parameters()}
        assert not left & within
        assert len(left) == len(names) - len(within)
        raise ZeroDivisionError
    assert [*model.state_dict()] == names
    assert torch.equal(logits(model, ids()), before)
    assert [part.module for (part,) in removable_parts(model, "attention")] == attentions


def test_an_unknown_layer_detaches_nothing() -> None:
    model = tiny_model("llama")
    names = [*model.state_dict()]
    with pytest.raises(UnknownLayer, match="layer 5"), detached(model, (0, 5)):
        pass
    assert [*model.state_dict()] == names


def ignore(_: str) -> None:
    pass


def measured(
    model: PreTrainedModel, levels: Sequence[int], workload: Workload = SMALL
) -> list[Any]:
    return measure_levels(model, (3, 0, 1, 4, 2), levels, workload, ignore)


def test_sizes_without_attention_count_the_remaining_weights(family: str) -> None:
    model = tiny_model(family)
    attentions = [part.module for (part,) in removable_parts(model, "attention")]
    every = sum(p.numel() for p in model.parameters())
    own = [sum(p.numel() for p in attention.parameters()) for attention in attentions]
    rows = measured(model, (0, 2, 5))
    expected = [every, every - own[3] - own[0], every - sum(own)]
    assert [row["level"] for row in rows] == [0, 2, 5]
    assert [row["parameter_count"] for row in rows] == expected
    assert [row["weight_bytes"] for row in rows] == [4 * count for count in expected]
    heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
    assert heads in (2, 4)
    per_layer = KV_BYTES * heads // 2
    assert [row["kv_bytes_per_token"] for row in rows] == [5 * per_layer, 3 * per_layer, 0]


@pytest.mark.parametrize("unit", ["mlp", "block"])
def test_sizes_without_mlps_or_blocks_count_the_remaining_weights(family: str, unit: Unit) -> None:
    model = tiny_model(family)
    every = sum(p.numel() for p in model.parameters())
    gone = [
        decoder_blocks(model)[3].module if unit == "block" else part.module
        for part in removable_parts(model, unit)[3][-1:]
    ]
    one = sum(p.numel() for module in gone for p in module.parameters())
    rows = measure_levels(model, (3, 0, 1, 4, 2), (0, 1, 5), SMALL, ignore, unit)
    assert [row["parameter_count"] for row in rows] == [every, every - one, every - 5 * one]
    whole = rows[0]["kv_bytes_per_token"]
    cache = [whole] * 3 if unit == "mlp" else [whole, whole * 4 // 5, 0]
    assert [row["kv_bytes_per_token"] for row in rows] == cache
    assert sum(p.numel() for p in model.parameters()) == every


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_the_sizes_of_unmeasured_levels_follow_from_one_level(family: str, unit: Unit) -> None:
    """`size_shares` against measured sizes: of the removed layers 0, 2 and 1, in this order."""
    model = tiny_model(family)
    levels = [0, 1, 2, 3]
    run: dict[str, Any] = {
        "architecture": type(model).__name__,
        "layer_count": LAYER_COUNT,
        "unit": unit,
        "levels": levels,
    }
    order = [0, 2, 1, *range(3, LAYER_COUNT)]
    rows = {
        row["level"]: row
        for row in measure_levels(model, order, levels, SMALL, lambda _: None, unit)
    }
    columns = {
        "kv_share": "kv_bytes_per_token",
        "weight_share": "weight_bytes",
        "parameter_share": "parameter_count",
    }
    true = {
        level: {name: row[column] / rows[0][column] for name, column in columns.items()}
        for level, row in rows.items()
    }
    found = size_shares(run, {0: true[0], 3: true[3]})
    assert found == {level: pytest.approx(shares) for level, shares in true.items()}
    assert size_shares(run, {}) == {
        n: {"kv_share": pytest.approx(true[n]["kv_share"])} for n in true
    }
    assert size_shares(run | {"architecture": "Gemma3nForCausalLM"}, {3: true[3]}) == {}


def test_tied_weights_count_once_and_bfloat16_weighs_half() -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    nn.Module.to(model, torch.bfloat16)  # the model's own `to` has no types
    (row,) = measured(model, (0,))
    shared = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is shared
    every = sum(value.numel() for value in model.state_dict().values()) - shared.numel()
    assert row["parameter_count"] == every
    assert row["weight_bytes"] == 2 * every
    assert row["kv_bytes_per_token"] == 5 * KV_BYTES // 2


def test_the_cache_has_the_reported_size(family: str) -> None:
    model = tiny_model(family)
    with detached(model, (0, 3)):
        _, cache = decoded(model, ids())
    layers: list[Any] = cache.layers
    held = sum(t.nbytes for layer in layers for t in (layer.keys, layer.values))
    assert held == kv_bytes_per_token(cache) * ids().numel()


def test_a_sliding_window_does_not_change_the_size_of_a_token() -> None:
    model = tiny_model("mistral", sliding_window=4)
    (row,) = measured(model, (0,))
    assert row["kv_bytes_per_token"] == 5 * KV_BYTES


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
