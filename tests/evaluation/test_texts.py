"""Measured texts, against transformers' own `generate` and plain passes of a zeroed model."""

import copy
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.evaluation.texts import measure_texts
from prunelake.inference.nested import NestedModel
from prunelake.spec import Unit
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.models.tiny_models import tiny_model, zero_projections

ORDER = (0, 3, 1)  # without block 0, a cache counts no tokens
LEVELS = (0, 1, 3)
NEW_TOKENS = 6
PROMPTS = ((1, 5), (1, 8, 13, 21, 34, 55), (1, 40, 41, 42))
"""The first token is the prefix of each."""


def examples(prompts: Sequence[tuple[int, ...]] = PROMPTS) -> list[EncodedExample]:
    """Examples with these tokens, the first of them special."""
    return [
        EncodedExample(Example(f"test:{n}", "", ("a",), 0), ids[:1], ids[1:], (), ((9,),))
        for n, ids in enumerate(prompts)
    ]


def as_text(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def measured(model: PreTrainedModel, unit: Unit = "attention") -> pl.DataFrame:
    nested = NestedModel(model, ORDER, unit=unit)
    return measure_texts(nested, "r", examples(), LEVELS, NEW_TOKENS, as_text)


def greedy(model: PreTrainedModel, prompt: tuple[int, ...], ends: list[int]) -> list[int]:
    """The continuation that transformers generates, alone and without a cache."""
    generate: Any = model.generate
    with torch.inference_mode():
        output = generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=GenerationConfig(
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                eos_token_id=ends,
                do_sample=False,
                use_cache=False,
            ),
        )
    found: list[int] = output[0, len(prompt) :].tolist()
    return found


@pytest.mark.parametrize(
    ("family", "unit"), [("llama", "attention"), ("gemma3", "block"), ("gpt_neox", "mlp")]
)
def test_texts_match_the_model_with_zeroed_projections(family: str, unit: Unit) -> None:
    model = tiny_model(family)
    rows = measured(model, unit)
    assert rows["level"].to_list() == [level for level in LEVELS for _ in PROMPTS]
    for row in rows.iter_rows(named=True):
        zeroed = copy.deepcopy(model)
        zero_projections(zeroed, ORDER[: row["level"]], unit)
        prompt = PROMPTS[int(row["example_id"].removeprefix("test:"))]
        assert row["generated_ids"] == greedy(zeroed, prompt, [2])
        assert row["generated"] == as_text(row["generated_ids"])
        with torch.inference_mode():
            logits = zeroed(torch.tensor([prompt]), use_cache=False).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(prompt[1:]), reduction="sum")
        assert row["prompt_nll"] == pytest.approx(float(nll), abs=1e-4)
        assert row["predicted_tokens"] == len(prompt) - 1


def test_no_token_ends_a_text_and_the_models_own_settings_do_not_count() -> None:
    model = tiny_model("llama")
    end = measured(model)["generated_ids"].to_list()[1][2]
    expected = [greedy(model, prompt, [96, end]) for prompt in PROMPTS]
    own = GenerationConfig(eos_token_id=[96, end], repetition_penalty=9.0, do_sample=True)
    model.generation_config = own
    assert measured(model).filter(level=0)["generated_ids"].to_list() == expected
    assert all(len(ids) == NEW_TOKENS and end not in ids for ids in expected)
    assert model.generation_config is own


def test_a_first_token_without_anything_in_front_is_not_predicted() -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    (example,) = examples([(1, 7)])
    bare = EncodedExample(example.example, (), (7,), ("x",), ((9,),))
    (row,) = measure_texts(nested, "r", [bare], (0,), 1, as_text).iter_rows(named=True)
    assert (row["prompt_nll"], row["predicted_tokens"]) == (0.0, 0)


def test_known_texts_are_not_measured_again() -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    everything = measure_texts(nested, "r", examples(), LEVELS, 2, as_text)
    known = everything.filter((pl.col("level") == 1) | (pl.col("example_id") == "test:2"))
    before = nested.forward_tokens
    rest = measure_texts(nested, "r", examples(), LEVELS, 2, as_text, known=known)
    keys = ("level", "example_id")
    assert (
        rest.select(keys).rows() == everything.join(known, on=keys, how="anti").select(keys).rows()
    )
    assert 0 < nested.forward_tokens - before < before
    assert measure_texts(nested, "r", examples(), LEVELS, 2, as_text, known=everything).is_empty()


def test_a_model_without_generate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(type(model), "can_generate", lambda _: False)
    with pytest.raises(UnsupportedModel, match=r"cannot generate text .*leave out --text-rows"):
        measured(model)
