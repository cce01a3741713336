"""Compare with numbers of the paper's own functions on the default model (see shared/golden)."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prunelake.analysis.confidence import option_probabilities
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.deletion_curves import ExplainedPrompt, deletion_curves
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.loading import LoadedModel, load_model
from prunelake.models.sources import resolve_model
from prunelake.spec import Explanation, Strategy
from prunelake.strategies.removal_order import removal_order
from prunelake.tasks import calibration_text
from prunelake.tasks.encoding import EncodedExample, Encoder, encode_examples
from prunelake.tasks.rows import Example
from tests.support.endurance import repeats

LEVELS = (0, 8)
EXPLAINED_LEVELS = LEVELS[repeats(1, 0) :]  # in the short form only the pruned model
EXPLAINED = ("arc_easy:0", "arc_easy:1", "arc_easy:2")[: repeats(1, 3)]
WINDOWS = repeats(1, 8)
DECIDED = repeats(5, 30)
"""How many layers of the removal order these windows decide as all windows do."""

EXPLANATION = Explanation(methods=("kernel_shap",), operators=("delete_text",))

Record = dict[str, Any]


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "golden" / "golden.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def records(golden: dict[str, Any]) -> dict[str, dict[int, Record]]:
    """The record of each example and level."""
    by_example: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in golden["records"]:
        by_example[f"{record['dataset']}:{record['row']}"][record["level"]] = record
    return by_example


@pytest.fixture(scope="module")
def loaded(smollm2: Path) -> LoadedModel:
    return load_model(resolve_model(str(smollm2), smollm2))


@pytest.fixture(scope="module")
def encoder(loaded: LoadedModel) -> Encoder:
    return Encoder(loaded.tokenizer, "bos")


@pytest.fixture(scope="module")
def examples(records: dict[str, dict[int, Record]], encoder: Encoder) -> dict[str, EncodedExample]:
    asked = [
        Example(name, by_level[0]["prompt"], tuple(by_level[0]["choices"]), by_level[0]["gold"])
        for name, by_level in records.items()
    ]
    return {e.example.example_id: e for e in encode_examples(encoder, asked, 8192)}


@pytest.fixture(scope="module")
def nested(loaded: LoadedModel, golden: dict[str, Any]) -> NestedModel:
    return NestedModel(loaded.model, golden["meta"]["removal_order"])


@pytest.fixture(scope="module")
def predictions(nested: NestedModel, examples: dict[str, EncodedExample]) -> pl.DataFrame:
    return predict(nested, "r", [*examples.values()], LEVELS)


@pytest.fixture(scope="module")
def attributions(
    nested: NestedModel, examples: dict[str, EncodedExample], predictions: pl.DataFrame
) -> pl.DataFrame:
    explained = [examples[name] for name in EXPLAINED]
    return compute_attributions(
        nested, predictions, explained, EXPLAINED_LEVELS, EXPLANATION
    ).filter(method="kernel_shap")


def test_tokens(examples: dict[str, EncodedExample], records: dict[str, dict[int, Record]]) -> None:
    for name, encoded in examples.items():
        record = records[name][0]
        assert [*encoded.prefix, *encoded.prompt] == record["prompt_ids"]
        assert [[*option] for option in encoded.options] == record["choice_ids"]


def test_log_likelihoods(predictions: pl.DataFrame, records: dict[str, dict[int, Record]]) -> None:
    compared = 0
    for row in predictions.iter_rows(named=True):
        record = records[row["example_id"]].get(row["level"])
        if record is not None:
            np.testing.assert_allclose(
                row["option_log_likelihoods"], record["loglikelihoods"], atol=2e-4, rtol=0
            )
            assert row["prediction"] == record["predicted"]
            compared += 1
    assert compared == sum(map(len, records.values()))


def test_kernel_shap(attributions: pl.DataFrame, records: dict[str, dict[int, Record]]) -> None:
    assert len(attributions) == len(EXPLAINED) * len(EXPLAINED_LEVELS)
    for row in attributions.iter_rows(named=True):
        record = records[row["example_id"]][row["level"]]
        assert row["seed"] == record["seed"]
        np.testing.assert_allclose(row["scores"], record["attributions"], atol=1e-3, rtol=0)


def test_comprehensiveness_and_sufficiency(
    attributions: pl.DataFrame,
    predictions: pl.DataFrame,
    nested: NestedModel,
    encoder: Encoder,
    examples: dict[str, EncodedExample],
    records: dict[str, dict[int, Record]],
) -> None:
    def prompt(encoded: EncodedExample) -> ExplainedPrompt:
        def ask(questions: Any) -> list[NDArray[np.float64]]:
            queries = [
                ScoringQuery(encoder.context_ids(i), encoded.options, k) for i, k in questions
            ]
            return [option_probabilities(answer) for answer in nested.log_likelihoods(queries)]

        return ExplainedPrompt(encoded.example.example_id, encoded.prompt, ask, encoder.retokenise)

    prompts = [prompt(examples[name]) for name in EXPLAINED]
    curves = deletion_curves(attributions, predictions, prompts, EXPLANATION)
    drop = pl.col("probability_full") - pl.col("probability_perturbed")
    # The paper's AOPC divides by one more than the number of fractions.
    scores = curves.group_by("example_id", "level", "kind").agg(drop.sum() / (pl.len() + 1))
    assert len(scores) == len(EXPLAINED) * len(EXPLAINED_LEVELS) * 2
    for name, level, kind, value in scores.iter_rows():
        key = {"comprehensiveness": "comp", "sufficiency": "suff"}[kind]
        assert value == pytest.approx(records[name][level][key], abs=1e-4), (name, level, kind)


def test_removal_order(
    golden: dict[str, Any], loaded: LoadedModel, encoder: Encoder, shared: Path
) -> None:
    # 8 windows of 512 tokens, documents joined, no special tokens: meta.removal_calibration.
    text = calibration_text.calibration_text("c4", shared / "data", 30_000)
    ids = encoder.encode_text(text)
    windows = [ids[start : start + 512] for start in range(0, WINDOWS * 512, 512)]
    order = removal_order(loaded.model, Strategy(), windows)
    assert [*order.layers[:DECIDED]] == golden["meta"]["removal_order"][:DECIDED]
