"""`load`, `Model` and `sweep` on a tiny model, against transformers and exact enumeration."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import prunelake as pl
from prunelake.errors import InvalidSpec, UnknownLayer
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.spec import Unit
from tests.support.models.tiny_models import zero_projections

PROMPT, OPTIONS = "Is it so?", [" positive", " no, never"]
"""The first option is one token."""


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> pl.Model:
    return pl.load(tiny_folder)


def reference(folder: Path, removed: dict[Unit, Sequence[int]]) -> tuple[PreTrainedModel, object]:
    """The same weights, loaded separately, with zeroed output projections."""
    loaded = load_model(resolve_model(str(folder), folder))
    for unit, layers in removed.items():
        zero_projections(loaded.model, layers, unit)
    return loaded.model, loaded.tokenizer


def option_log_likelihood(folder: Path, option: str, removed: dict[Unit, Sequence[int]]) -> float:
    module, tokenizer = reference(folder, removed)
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)  # type: ignore[attr-defined]  # a tokenizer of transformers has no types
    ids = tokenizer.encode(PROMPT + option, add_special_tokens=False)  # type: ignore[attr-defined]  # the same
    with torch.inference_mode():
        logits = module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logits[n - 1, ids[n]] for n in range(len(prompt), len(ids))))


def test_log_likelihoods_equal_transformers(model: pl.Model, tiny_folder: Path) -> None:
    found = model.log_likelihoods(PROMPT, OPTIONS)
    assert list(found) == OPTIONS
    expected = [option_log_likelihood(tiny_folder, option, {}) for option in OPTIONS]
    assert [*found.values()] == pytest.approx(expected, abs=1e-4)


def test_units_are_removed_within_the_block_only(model: pl.Model, tiny_folder: Path) -> None:
    whole = model.log_likelihoods(PROMPT, OPTIONS)
    with model.removed(attention=[0, 3]), model.removed(mlp=[1]):
        found = model.log_likelihoods(PROMPT, OPTIONS)
        assert "without attention [0, 3], without mlp [1]" in repr(model)
    removed: dict[Unit, Sequence[int]] = {"attention": [0, 3], "mlp": [1]}
    expected = [option_log_likelihood(tiny_folder, option, removed) for option in OPTIONS]
    assert [*found.values()] == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(whole, abs=1e-2)
    assert model.log_likelihoods(PROMPT, OPTIONS) == whole


def test_the_model_is_whole_again_after_an_error(model: pl.Model) -> None:
    whole = model.log_likelihoods(PROMPT, OPTIONS)
    with pytest.raises(RuntimeError), model.removed(block=[2]):
        raise RuntimeError
    with pytest.raises(UnknownLayer, match="layers 0 to 4"), model.removed(attention=[5]):
        pass
    assert model.log_likelihoods(PROMPT, OPTIONS) == whole


def test_an_attribution_of_a_short_prompt_has_exact_shapley_values(model: pl.Model) -> None:
    found = model.attribute(PROMPT, OPTIONS[0], samples_per_token=100)
    count = len(found.tokens)
    assert "".join(found.tokens) == PROMPT
    masked = {}
    encoder, baseline = model._encoder, 0
    ids = encoder.encode_text(PROMPT)
    for bits in range(2**count):
        kept = [n for n in range(count) if bits >> n & 1]
        tokens = [token if n in kept else baseline for n, token in enumerate(ids)]
        masked[frozenset(kept)] = _ids_log_likelihood(model, tokens, OPTIONS[0])
    expected = np.zeros(count)
    orders = [*permutations(range(count))]
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            expected[player] += (masked[before | {player}] - masked[before]) / len(orders)
    assert found.scores == pytest.approx(expected, abs=1e-4)
    assert found.log_likelihood == pytest.approx(masked[frozenset(range(count))], abs=1e-4)


def _ids_log_likelihood(model: pl.Model, prompt: list[int], option: str) -> float:
    (last,) = model._encoder.encode_text(PROMPT + option)[len(prompt) :]
    with torch.inference_mode():
        logits = model._loaded.model(torch.tensor([prompt])).logits[0, -1].double()
    return float(logits.log_softmax(-1)[last])


def test_an_attribution_is_coloured_html_and_a_frame(model: pl.Model) -> None:
    found = pl.Attribution(" <b>", "lime", ("a", "<", "\u00e9"), (2.0, -1.0, 0.0), -0.25)
    html = found._repr_html_()
    assert "rgba(0, 114, 178, 0.50)" in html
    assert '<span title="-1.000"' in html
    assert ">&lt;</span>" in html
    assert "&lt;b&gt;</b> (-0.25 nats)" in html
    assert found.to_polars()["score"].to_list() == [2.0, -1.0, 0.0]
    gradient = model.attribute(PROMPT, OPTIONS[0], "input_x_gradient")
    assert gradient.method == "input_x_gradient"
    assert gradient.scores != model.attribute(PROMPT, OPTIONS[0]).scores


def test_options_are_given_once_each(model: pl.Model) -> None:
    for options in ([], [" yes", " yes"]):
        with pytest.raises(InvalidSpec, match="each only once"):
            model.log_likelihoods(PROMPT, options)


def test_a_sweep_has_the_answers_of_the_model_without_these_layers(
    model: pl.Model, tmp_path: Path
) -> None:
    lines: list[str] = []
    asked = {"levels": [0, 2], "strategy": "last", "explain": False, "lake": tmp_path / "lake"}
    run = pl.sweep(model, "opinions", rows=3, log=lines.append, **asked)  # type: ignore[arg-type]  # a dict has one type of values
    assert f"run {run.id} is in the lake" in lines[-1]
    example = pl.open_lake(run.lake).sql(
        """
        select prompt, options, option_log_likelihoods, level
        from predictions
        inner join examples using (run_id, example_id)
        where level = ?
        limit 1
        """,
        [2],
    )
    prompt, options, expected, _ = example.row(0)
    with model.removed(attention=[3, 4]):
        found = model.log_likelihoods(prompt, options)
        with pytest.raises(InvalidSpec, match=r"outside of `with model\.removed"):
            pl.sweep(model, "opinions", rows=3)
    assert [*found.values()] == pytest.approx(expected, abs=1e-4)
    again = pl.sweep(model, "opinions", rows=3, log=lines.append, **asked)  # type: ignore[arg-type]  # the same
    assert again == run
    assert "nothing to compute" in lines[-1]
    with pytest.raises(InvalidSpec, match=r"sweep: strategy\.name"):
        pl.sweep(model, "opinions", strategy="nope")
