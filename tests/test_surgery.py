import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.models import attention_layers, check_supported
from prunelake.surgery import removed
from tests.families import FAMILIES, LAYERS, VOCABULARY, tiny_model

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
        answer: Tensor = model(input_ids=ids, use_cache=False).logits
    return answer


def hooks(model: nn.Module) -> Iterator[object]:
    for module in model.modules():
        yield from (*module._forward_hooks, *module._forward_pre_hooks)
        if "forward" in module.__dict__:
            yield module


def test_removal_equals_zeroed_output_projections(model: PreTrainedModel, ids: Tensor) -> None:
    zeroed = copy.deepcopy(model)
    for layer in REMOVED:
        for parameter in attention_layers(zeroed)[layer].projection.parameters():
            parameter.data.zero_()
    with removed(model, REMOVED):
        got = logits(model, ids)
    torch.testing.assert_close(got, logits(zeroed, ids), atol=1e-5, rtol=0)
    assert (got - logits(model, ids)).abs().max() > 1e-2


def test_the_model_is_bit_for_bit_the_old_one_afterwards(
    model: PreTrainedModel, ids: Tensor
) -> None:
    before, weights = logits(model, ids), copy.deepcopy(model.state_dict())
    with removed(model, range(LAYERS)):
        logits(model, ids)
    assert torch.equal(logits(model, ids), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not [*hooks(model)]


def test_the_model_is_whole_again_after_an_error(model: PreTrainedModel, ids: Tensor) -> None:
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


def test_a_forward_set_by_another_tool_comes_back() -> None:
    model = tiny_model("llama")
    attention = attention_layers(model)[0].attention
    patched = attention.forward
    attention.forward = patched
    with removed(model, [0]):
        assert attention.forward is not patched
    assert attention.__dict__["forward"] is patched


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_unknown_layer_is_named_before_anything_changes(layer: int) -> None:
    model = tiny_model("llama")
    with pytest.raises(UnknownLayer, match=rf"layer {layer}: the model has layers 0 to 4"):
        removed(model, [0, layer]).__enter__()
    assert not [*hooks(model)]


def test_another_family_is_told_what_was_looked_for() -> None:
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


def test_every_family_passes_the_check(model: PreTrainedModel) -> None:
    check_supported(model)
    assert not [*hooks(model)]


def test_logits_made_otherwise_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    model.lm_head.register_forward_hook(lambda _module, _args, output: output * 2)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: nn.Linear(32, VOCABULARY))
    with pytest.raises(UnsupportedModel, match="its logits are not"):
        check_supported(model)
