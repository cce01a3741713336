import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BartConfig, BertConfig, MambaConfig, PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.decoder.modeling_prunelake import AbsentPart, Placeholder
from prunelake.models.loading import check_supported
from prunelake.models.removal import detached, removed, zero_out
from prunelake.spec import Unit
from tests.support.models.tiny_models import (
    FAMILIES,
    LAYER_COUNT,
    UNITS,
    VOCABULARY,
    tiny_model,
    zero_projections,
)

REMOVED = (0, 3)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    family: str = request.param
    return tiny_model(family)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(3, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(1))


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        output: Tensor = model(input_ids=ids, use_cache=False).logits
    return output


def hooks(model: nn.Module) -> Iterator[object]:
    for module in model.modules():
        yield from (*module._forward_hooks, *module._forward_pre_hooks)
        if "forward" in module.__dict__:
            yield module


@pytest.mark.parametrize("unit", UNITS)
def test_removal_equals_zeroed_output_projections(
    unit: Unit, model: PreTrainedModel, ids: Tensor
) -> None:
    zeroed, answers = copy.deepcopy(model), []
    zero_projections(zeroed, REMOVED, unit)
    for unlike in UNITS:
        with removed(model, REMOVED, unlike):
            answers.append(logits(model, ids))
    got = answers.pop([*UNITS].index(unit))
    torch.testing.assert_close(got, logits(zeroed, ids), atol=1e-5, rtol=0)
    for other in (*answers, logits(model, ids)):
        assert (got - other).abs().max() > 1e-2


def test_zero_out_equals_removal(model: PreTrainedModel, ids: Tensor) -> None:
    for unit in UNITS:
        zeroed = copy.deepcopy(model)
        zero_out(zeroed, REMOVED, unit)
        with removed(model, REMOVED, unit):
            assert torch.equal(logits(zeroed, ids), logits(model, ids))


def test_a_model_without_blocks_treats_each_token_alone(model: PreTrainedModel) -> None:
    ids = torch.tensor([[5, 6, 7]])
    with removed(model, range(LAYER_COUNT), "block"):
        whole = logits(model, ids)
        for n in range(3):  # no attention is left to mix the tokens
            torch.testing.assert_close(logits(model, ids[:, n : n + 1]), whole[:, n : n + 1])


@pytest.mark.parametrize("unit", UNITS)
def test_the_model_is_identical_after_a_removal(
    unit: Unit, model: PreTrainedModel, ids: Tensor
) -> None:
    before, weights = logits(model, ids), copy.deepcopy(model.state_dict())
    with removed(model, range(LAYER_COUNT), unit):
        logits(model, ids)
    assert torch.equal(logits(model, ids), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not [*hooks(model)]


def test_the_model_is_restored_after_an_error(model: PreTrainedModel, ids: Tensor) -> None:
    before = logits(model, ids)
    with pytest.raises(RuntimeError, match="halt"), removed(model, REMOVED):
        raise RuntimeError("halt")
    assert torch.equal(logits(model, ids), before)
    assert not [*hooks(model)]


def test_nested_removals_add_up(ids: Tensor) -> None:
    model = tiny_model("llama")
    with removed(model, [0]), removed(model, [3]):
        both = logits(model, ids)
    with removed(model, REMOVED):
        assert torch.equal(logits(model, ids), both)


def test_a_forward_that_another_tool_has_set_is_restored() -> None:
    model = tiny_model("llama")
    attention = removable_parts(model, "attention")[0][0].module
    patched = attention.forward
    attention.forward = patched
    with removed(model, [0]):
        assert attention.forward is not patched
    assert attention.__dict__["forward"] is patched


@pytest.mark.parametrize("layer", [-1, LAYER_COUNT])
def test_an_unknown_layer_is_refused_before_anything_changes(layer: int) -> None:
    model = tiny_model("llama")
    with pytest.raises(UnknownLayer, match=rf"layer {layer}: the model has layers 0 to 4"):
        removed(model, [0, layer]).__enter__()
    assert not [*hooks(model)]


def test_an_encoder_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(
        BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=31)
    )
    with pytest.raises(UnsupportedModel, match=r"BertLMHeadModel is not supported: looked for a"):
        decoder_blocks(model)


def test_an_encoder_decoder_is_refused() -> None:
    config = BartConfig(d_model=16, decoder_layers=2, decoder_attention_heads=2, vocab_size=31)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnsupportedModel, match="block 0 also attends to the output of an encoder"):
        decoder_blocks(model)


def test_a_unit_that_a_model_lacks_is_refused_with_the_units_that_it_has() -> None:
    with torch.device("meta"):  # the structure shows without weights
        model = AutoModelForCausalLM.from_config(MambaConfig(hidden_size=16, num_hidden_layers=2))
    message = (
        "MambaForCausalLM has no attention layers: block 0 mixes tokens with MambaMixer, a state "
        "space; use the unit block or state_space"
    )
    with pytest.raises(UnsupportedModel, match=message):
        removable_parts(model, "attention")


def test_blocks_without_an_mlp_keep_their_attention_removable(ids: Tensor) -> None:
    model = tiny_model("llama")
    for block in decoder_blocks(model):
        block.module.mlp = nn.Identity()
    check_supported(model)
    with removed(model, [0], "block"):
        logits(model, ids)
    with pytest.raises(UnsupportedModel, match="has no MLPs: block 0 mixes tokens with Llama"):
        removed(model, [0], "mlp").__enter__()


@pytest.mark.parametrize("unit", UNITS)
def test_every_family_passes_the_check(unit: Unit, model: PreTrainedModel) -> None:
    check_supported(model, unit)
    assert not [*hooks(model)]


def test_an_mlp_that_is_called_twice_is_refused() -> None:
    model = tiny_model("llama")
    block = decoder_blocks(model)[1].module
    mlp = block.get_submodule("mlp")
    block.register_forward_hook(lambda _module, _args, output: mlp(output))
    with pytest.raises(UnsupportedModel, match=r"MLP once, in order.*"):
        check_supported(model)


def test_logits_that_depend_on_more_than_the_last_hidden_states_are_refused() -> None:
    model = tiny_model("llama")

    def add_ids(_: nn.Module, __: Any, kwargs: dict[str, Any], output: Any) -> None:
        output.logits += kwargs["input_ids"][..., None]

    model.register_forward_hook(add_ids, with_kwargs=True)
    with pytest.raises(UnsupportedModel, match="not made from its last hidden states alone"):
        check_supported(model)


def test_the_model_is_restored_after_an_error_halfway(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    before = dict(model.named_modules())

    initialise = Placeholder.__init__

    def fail(self: Placeholder, absent: AbsentPart) -> None:
        if absent.kind == "mlp":  # by then the attention of the layer has been replaced
            raise MemoryError
        initialise(self, absent)

    monkeypatch.setattr(Placeholder, "__init__", fail)
    with pytest.raises(MemoryError), detached(model, [1], "block"):
        pass
    assert dict(model.named_modules()) == before
