"""Input x gradient, against finite differences and captum."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient
from torch import Tensor

from prunelake.evaluation.attributions import compute_attributions
from prunelake.inference.branches import Branches
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import PrefixTree
from prunelake.models.removal import removed
from prunelake.spec import Explanation
from tests.support.models.explained_prompts import (
    EXAMPLES,
    LEVELS,
    ORDER,
    TARGETS,
    explained,
    predictions,
    scores,
)
from tests.support.models.tiny_models import tiny_model


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("level", LEVELS)
def test_input_x_gradient_is_the_slope_of_scaling_an_embedding(family: str, level: int) -> None:
    model, example = tiny_model(family), EXAMPLES[0]
    option = example.options[2]
    frame = explained(model, [example], {"test:4": {level: 2}}, methods=("input_x_gradient",))
    exact = copy.deepcopy(model).double()
    ids = torch.tensor([[*example.prefix, *example.prompt, *option[:-1]]])
    start = len(example.prefix) + len(example.prompt) - 1

    def scaled(place: int, factor: float) -> float:
        embeddings = exact.get_input_embeddings()(ids).clone()
        embeddings[:, place] *= factor
        with removed(exact, ORDER[:level]), torch.inference_mode():
            logits = exact(inputs_embeds=embeddings, use_cache=False).logits[0]
        steps = logits.double().log_softmax(-1)[start:]
        return float(sum(steps[n, token].item() for n, token in enumerate(option)))

    # Differences of fourth order; at this step, float32 norms leave an error of about 1e-4.
    step, weights = 0.01, {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    slopes = [
        sum(weight * scaled(place, 1 + n * step) for n, weight in weights.items()) / step
        for place in range(1, 1 + len(example.prompt))
    ]
    got = scores(frame, method="input_x_gradient")
    assert np.abs(slopes).max() > 0.1
    np.testing.assert_allclose(got, slopes, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_batched_gradients_equal_captum_at_each_level(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = tiny_model(family), EXAMPLES[0]
    nested = NestedModel(model, ORDER)
    batches: list[int] = []
    run = nested.run_batch

    def counted(rows: Sequence[PrefixTree], inputs: dict[str, Tensor]) -> tuple[Tensor, Branches]:
        batches.append(len(rows))
        return run(rows, inputs)

    monkeypatch.setattr(nested, "run_batch", counted)
    explanation = Explanation(methods=("input_x_gradient",))
    frame = compute_attributions(nested, predictions(TARGETS), [example], LEVELS, explanation)
    assert batches == [3]  # a row for each level, although levels explain different options
    for level, target in TARGETS["test:4"].items():
        option = example.options[target]
        ids = torch.tensor([[*example.prefix, *example.prompt, *option[:-1]]])
        start = len(example.prefix) + len(example.prompt) - 1

        def log_likelihood(
            embeddings: Tensor, start: int = start, option: tuple[int, ...] = option
        ) -> Tensor:
            logits = model(inputs_embeds=embeddings, use_cache=False).logits
            steps = logits[:, start:].log_softmax(-1)
            effect: Tensor = steps[:, range(len(option)), option].sum(-1)
            return effect

        embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
        with removed(model, ORDER[:level]):
            product = InputXGradient(log_likelihood).attribute(embeddings)
        wanted = product[0, len(example.prefix) : start + 1].sum(-1).detach().double().numpy()
        got = scores(frame, level=level, method="input_x_gradient")
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=1e-4)
