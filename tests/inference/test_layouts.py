"""Layouts of decoders beside Llama's: each gives the numbers of plain passes, or is refused."""

import pytest
import torch

from benchmarks.models.families import check
from benchmarks.models.tiny_decoders import build_tiny, causal_types, wrapper_types
from prunelake.errors import UnsupportedModel
from prunelake.inference.description import describe_decoder
from prunelake.inference.nested import NestedModel
from prunelake.strategies.importance import cosine_importance

LAYOUTS = {
    "bloom": "levels, packing",  # parts add the residual themselves; positions by column
    "gemma3n_text": "trees, levels",  # several streams; keys and values that later blocks read
    "gpt2": "trees, levels, packing",
    "opt": "trees, levels, packing",  # an MLP without a module of its own
    "qwen3_next": "levels",  # linear attention, and MLPs of experts
    "zamba2": "levels (no portable checkpoint)",  # blocks that share their weights
}
"""A model type of each layout, and what levels without attention share."""


@pytest.mark.parametrize("model_type", LAYOUTS)
def test_every_layout_gives_the_numbers_of_plain_passes(model_type: str) -> None:
    found = check(build_tiny(model_type))
    assert (found["result"], found["sharing"]["attention"]) == ("exact", LAYOUTS[model_type])


def test_a_model_whose_tokens_read_later_tokens_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="its tokens also attend to later tokens"):
        NestedModel(build_tiny("paligemma"), ())


@pytest.mark.endurance
@pytest.mark.parametrize("model_type", [*causal_types(), *wrapper_types()])
def test_every_class_is_exact_or_refused(model_type: str) -> None:
    try:
        model = build_tiny(model_type)
        model(input_ids=torch.arange(3, 12)[None], use_cache=False)
    except Exception as error:  # a class that needs more than a small configuration
        pytest.skip(f"not built: {error}")
    try:
        assert check(model)["result"] in ("exact", "refused")
    except UnsupportedModel as error:
        assert "not supported" in str(error) or "has no" in str(error)  # noqa: PT017  # the message


def test_layers_are_counted_by_the_blocks_that_have_the_unit() -> None:
    model = build_tiny("qwen3_next")
    assert NestedModel(model, ()).level_masks.level_count == 1
    assert len(NestedModel(model, ()).layers) == 2
    assert len(NestedModel(model, (), unit="linear_attention").layers) == 2
    assert len(NestedModel(model, (), unit="mlp").layers) == 4


def test_the_map_of_a_decoder_in_words() -> None:
    with torch.device("meta"):
        text = describe_decoder(build_tiny("qwen3_next"))
    assert text.startswith(
        "Qwen3NextForCausalLM: 4 blocks that text runs through\n\nblocks 0, 2:\n"
    )
    for line in (
        "Qwen3NextForCausalLM: 4 blocks that text runs through",
        "blocks 0, 2:",
        "  linear_attn: Qwen3NextGatedDeltaNet, linear attention",
        "  mlp: Qwen3NextSparseMoeBlock, an MLP of experts",
        "  attention         2 attention layers, in blocks 1, 3",
        "  linear_attention  2 linear-attention layers, in blocks 0, 2",
        "  options in one row         no, separate rows: block 0 mixes tokens by their order "
        "(Qwen3NextGatedDeltaNet)",
    ):
        assert f"{line}\n" in text


@pytest.mark.parametrize("model_type", ["gemma3n_text", "granite", "falcon_h1"])
def test_importance_of_blocks_that_are_no_plain_sum_is_between_zero_and_two(
    model_type: str,
) -> None:
    model = build_tiny(model_type)
    importance = cosine_importance(model, [range(3, 20)])
    assert all(0 < value < 2 for value in importance)
    before = cosine_importance(model, [range(3, 20)])
    assert importance == before
