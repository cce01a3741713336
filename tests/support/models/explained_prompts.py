"""Two prompts of token ids, explained on a tiny Llama at three levels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from prunelake.evaluation.attributions import compute_attributions
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.removal import removed
from prunelake.spec import Explanation
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.models.tiny_models import tiny_model

ORDER = (3, 0, 4, 1, 2)
LEVELS = (0, 2, 5)
LLAMA = tiny_model("llama")


def encoded(name: str, prompt: tuple[int, ...], *options: tuple[int, ...]) -> EncodedExample:
    example = Example(name, "", tuple(" x" for _ in options), 0)
    return EncodedExample(example, (1,), prompt, tuple("x" for _ in prompt), options)


EXAMPLES = [
    encoded("test:4", (11, 52, 33, 74, 25, 96), (7, 8), (9,), (20, 21, 22)),
    encoded("test:2", (61, 12, 83, 64), (7,), (9, 10)),
]
# The levels disagree about the first example.
TARGETS = {"test:4": {0: 1, 2: 0, 5: 2}, "test:2": {0: 1, 2: 1, 5: 1}}


def predictions(targets: dict[str, dict[int, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"run_id": "r", "level": level, "example_id": name, "prediction": target}
        for name, own in targets.items()
        for level, target in own.items()
    )


def explained(
    model: PreTrainedModel = LLAMA,
    examples: list[EncodedExample] = EXAMPLES,
    targets: dict[str, dict[int, int]] = TARGETS,
    **explanation: Any,
) -> pl.DataFrame:
    levels = tuple(targets[examples[0].example.example_id])
    nested = NestedModel(model, ORDER)
    return compute_attributions(
        nested, predictions(targets), examples, levels, Explanation(**explanation)
    )


def scores(frame: pl.DataFrame, **keys: Any) -> NDArray[np.float64]:
    return np.array(frame.filter(**keys)["scores"].item(), dtype=float)


def log_likelihood(
    model: PreTrainedModel, level: int, prompt: tuple[int, ...], option: tuple[int, ...]
) -> float:
    """The oracle: one plain pass after the prefix token 1."""
    with removed(model, ORDER[:level]), torch.inference_mode():
        logits = model(input_ids=torch.tensor([[1, *prompt, *option]]), use_cache=False).logits[0]
    steps = logits.double().log_softmax(-1)[len(prompt) :]
    return float(sum(steps[n, token].item() for n, token in enumerate(option)))


def masked(prompt: tuple[int, ...], present: Any, baseline: int) -> tuple[int, ...]:
    return tuple(t if p else baseline for t, p in zip(prompt, present, strict=True))


def record_queries(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ScoringQuery]]:
    """The queries of each call of `NestedModel.log_likelihoods` from now on."""
    calls: list[Sequence[ScoringQuery]] = []
    answer = NestedModel.log_likelihoods

    def recorded(
        model: NestedModel, queries: Sequence[ScoringQuery], *_: Any
    ) -> list[NDArray[np.float64]]:
        calls.append(queries)
        return answer(model, queries)

    monkeypatch.setattr(NestedModel, "log_likelihoods", recorded)
    return calls
