from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from prunelake.evaluation.predictions import predict
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.run_tables import PREDICTIONS
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.models.tiny_models import tiny_model


class FixedModel(NestedModel):
    """Returns prescribed log-likelihoods in order, and records the queries."""

    def __init__(self, *answers: list[list[float]]) -> None:
        self.answers = [np.array(answer) for answer in answers]

    def log_likelihoods(
        self,
        queries: Sequence[ScoringQuery],
        progress: Progress | None = None,  # noqa: ARG002  # part of the signature
        masks: LevelMasks | None = None,  # noqa: ARG002  # part of the signature
    ) -> list[NDArray[np.float64]]:
        self.queries = queries
        return self.answers


def example(*options: str, gold: int = 0, name: str = "test:0") -> EncodedExample:
    ids = tuple((10 + n,) for n in range(len(options)))
    return EncodedExample(Example(name, "Why", options, gold), (1,), (5, 6), ("W", "hy"), ids)


def test_queries_have_the_prefix_and_all_levels() -> None:
    model = FixedModel([[-1, -2], [-2, -1]])
    predict(model, "r", [example(" a", " b")], (0, 3))
    assert model.queries == [ScoringQuery((1, 5, 6), ((10,), (11,)), (0, 3))]


def test_the_most_likely_option_is_predicted_also_per_byte() -> None:
    # Per byte: -8/1 against -9/9, then -1/1 against -10/9.
    model = FixedModel([[-8, -9], [-1, -10]])
    frame = predict(model, "r", [example(" a", " abcdefghi", gold=1)], (0, 2))
    assert frame.schema == PREDICTIONS.schema
    assert frame.select(
        "level", "prediction", "is_correct", "prediction_norm", "is_correct_norm"
    ).rows() == [(0, 0, False, 1, True), (2, 0, False, 0, False)]
    assert frame["option_log_likelihoods"].to_list() == [[-8, -9], [-1, -10]]
    assert frame["option_bytes"].to_list() == [[1, 9]] * 2


def test_bytes_are_counted_in_utf8_without_the_delimiter() -> None:
    # "é" has two bytes: -3/2 beats -2/1; counted in characters, -2/1 would win.
    frame = predict(FixedModel([[-2.0, -3.0]]), "r", [example(" e", " é")], (0,))
    assert frame.row(0, named=True)["option_bytes"] == [1, 2]
    assert frame.row(0, named=True)["prediction_norm"] == 1


def test_a_tie_goes_to_the_first_option() -> None:
    frame = predict(FixedModel([[-5, -2, -2]]), "r", [example(" a", " b", " c")], (0,))
    row = frame.row(0, named=True)
    assert (row["prediction"], row["prediction_norm"]) == (1, 1)


def test_confidence_is_the_softmax_of_the_predicted_option() -> None:
    values = [-3.2, -1.1, -40.0]
    frame = predict(FixedModel([values]), "r", [example(" a", " b", " c")], (0,))
    assert frame["confidence"].item() == pytest.approx(softmax(values).max(), abs=1e-15)


def test_rows_are_complete_and_in_the_order_of_levels() -> None:
    examples = [
        example(" a", " b", name="test:9"),
        example(" a", " b", " c", name="test:4", gold=2),
    ]
    levels = (0, 1, 4)
    frame = predict(NestedModel(tiny_model("llama"), range(5)), "run", examples, levels)
    assert frame.select("run_id", "level", "example_id", "gold").rows() == [
        ("run", level, name, gold)
        for level in levels
        for name, gold in (("test:9", 0), ("test:4", 2))
    ]
    assert [len(values) for values in frame["option_log_likelihoods"]] == [2, 3] * 3
