import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.models.decoder_map import attention_layers
from prunelake.models.loading import check_supported
from prunelake.models.placeholders import MLPPlaceholder
from prunelake.models.removal import detached, removed, zero_out
from prunelake.spec import UNIT_NAMES, Unit
from tests.support.tiny_models import (
    FAMILIES,
    LAYER_COUNT,
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


@pytest.mark.parametrize("unit", UNIT_NAMES)
def test_removal_equals_zeroed_output_projections(
    unit: Unit, model: PreTrainedModel, ids: Tensor
) -> None:
    zeroed, answers = copy.deepcopy(model), []
    zero_projections(zeroed, REMOVED, unit)
    for unlike in UNIT_NAMES:
        with removed(model, REMOVED, unlike):
            answers.append(logits(model, ids))
    got = answers.pop([*UNIT_NAMES].index(unit))
    torch.testing.assert_close(got, logits(zeroed, ids), atol=1e-5, rtol=0)
    for other in (*answers, logits(model, ids)):
        assert (got - other).abs().max() > 1e-2


def test_zero_out_equals_removal(model: PreTrainedModel, ids: Tensor) -> None:
    for unit in UNIT_NAMES:
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


@pytest.mark.parametrize("unit", UNIT_NAMES)
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
    attention = attention_layers(model)[0].attention
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


def test_the_error_for_another_family_names_the_expected_structure() -> None:
    model = AutoModelForCausalLM.from_config(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=31)
    )
    with pytest.raises(UnsupportedModel, match=r"GPT2LMHeadModel.*looked for a list `layers`"):
        attention_layers(model)


def test_a_block_without_attention_is_named() -> None:
    model = tiny_model("llama")
    del attention_layers(model)[2].block.self_attn
    with pytest.raises(UnsupportedModel, match="block 2 has no such attention"):
        attention_layers(model)


@pytest.mark.parametrize("unit", ["mlp", "block"])
def test_blocks_without_an_mlp_keep_their_attention_removable(unit: Unit, ids: Tensor) -> None:
    model = tiny_model("llama")
    for layer in attention_layers(model):
        layer.block.mlp = nn.Identity()  # like experts, which have many projections
    check_supported(model)
    with removed(model, [0]):
        logits(model, ids)
    with pytest.raises(UnsupportedModel, match=r"attention layers only: .* named mlp .*block 0"):
        removed(model, [0], unit).__enter__()


@pytest.mark.parametrize("unit", UNIT_NAMES)
def test_every_family_passes_the_check(unit: Unit, model: PreTrainedModel) -> None:
    check_supported(model, unit)
    assert not [*hooks(model)]


def test_an_mlp_that_is_called_twice_is_refused() -> None:
    model = tiny_model("llama")
    block = attention_layers(model)[1].block
    mlp = block.get_submodule("mlp")
    block.register_forward_hook(lambda _module, _args, output: mlp(output))
    check_supported(model)
    with pytest.raises(UnsupportedModel, match="do not call their attention and MLP once"):
        check_supported(model, "mlp")


def test_other_logits_than_those_of_the_head_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    model.lm_head.register_forward_hook(lambda _module, _args, output: output * 2)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: nn.Linear(32, VOCABULARY))
    with pytest.raises(UnsupportedModel, match="its logits are not"):
        check_supported(model)


def test_the_model_is_restored_after_an_error_halfway(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    before = dict(model.named_modules())

    def fail(_: MLPPlaceholder) -> None:
        raise MemoryError

    # By then the attention of the layer has been replaced.
    monkeypatch.setattr(MLPPlaceholder, "__init__", fail)
    with pytest.raises(MemoryError), detached(model, [1], "block"):
        pass
    assert dict(model.named_modules()) == before
