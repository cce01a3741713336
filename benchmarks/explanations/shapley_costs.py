"""The forward tokens of explanations in a sweep of 16 levels, and their error on longer prompts.

    python -m benchmarks.explanations.shapley_costs

SmolLM2-135M explains a few prompts at levels 0 to 15. The reference of the error is Leverage SHAP
with 100 masks per token, because there are too many masks to score all of them. `shapley.py`
measures the error against exact values, and describes the source of the prompts. Writes
docs/measurements/shapley-costs.md.
"""

import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.explanations.shapley_estimates import (
    Samples,
    accuracy_table,
    estimate,
    label,
    numbers,
)
from benchmarks.explanations.shapley_games import Player, examples, sampled_game
from benchmarks.paths import RESULTS
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.spec import Explanation, Rows

LONG_PROMPTS = Rows(numbers=(0, 5))  # rows of everyday_knowledge
COST_PROMPTS = {"everyday_knowledge": Rows(numbers=(0, 5)), "arc_easy": Rows(numbers=(0, 7))}
COST_LEVELS = tuple(range(16))
COST_METHODS: list[tuple[str, Samples]] = [
    ("kernel_shap", 3),
    ("leverage_shap", 3),
    ("leverage_shap", 6),
    ("difference_shap", (1, 0.1)),
    ("difference_shap", (7, 0.5)),
    ("difference_shap", (7, 0.5, 1.5)),
    ("difference_shap", (7, 0.5, 1.5, 3)),
]
LONG_METHODS: list[tuple[str, Samples]] = [
    ("kernel_shap", 3),
    ("shapiq KernelSHAP", 3),
    ("leverage_shap", 3),
    ("leverage_shap", 6),
    ("difference_shap", (7, 0.5)),
    ("difference_shap", (7, 0.5, 1.5)),
    ("difference_shap", (12, 0.5, 1.5, 3)),
]


@cache
def smollm2() -> Player:
    return Player.load("smollm2")


def cost_table() -> Iterator[str]:
    """Forward tokens of attributions at 16 levels.

    Only `difference_shap` with several stages chooses masks by values, and uses SmolLM2. The other
    methods use an untrained model of the same shape.
    """
    torch.manual_seed(0)
    model, order = smollm2().model, smollm2().order
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=len(model.layers),
        num_attention_heads=2,
        max_position_embeddings=2048,
    )
    untrained = LlamaForCausalLM(config).eval()
    tokens: dict[str, list[float]] = {}
    lengths = []
    for task, rows in COST_PROMPTS.items():
        for encoded in examples("smollm2", task, rows):
            lengths.append(len(encoded.prompt))
            predictions = predict(model, "run", [encoded], COST_LEVELS)
            for name, samples in COST_METHODS:
                given = {"leverage_samples": samples} if name == "leverage_shap" else {}
                if isinstance(samples, tuple):
                    given = {"unpruned_samples": samples[0], "difference_samples": samples[1:]}
                needs_values = isinstance(samples, tuple) and len(samples) > 2
                nested = NestedModel(model.model if needs_values else untrained, order)
                explanation = Explanation.model_validate({"methods": [name], **given})
                compute_attributions(nested, predictions, [encoded], COST_LEVELS, explanation)
                tokens.setdefault(label(name, samples), []).append(nested.forward_tokens)
    yield f"Prompts of {', '.join(map(str, lengths))} tokens."
    yield ""
    yield "| method, masks per token | forward tokens | share of leverage_shap 6, by prompt |"
    yield "|---|---:|---|"
    base = np.array(tokens["leverage_shap 6"])
    for name, counts in tokens.items():
        yield f"| {name} | {sum(counts):,.0f} | {numbers(np.array(counts) / base)} |"


def sections() -> Iterator[str]:
    yield "\n## Forward tokens at levels 0 to 15\n"
    yield from cost_table()
    yield "\n## Error on longer prompts\n"
    prompts = examples("smollm2", "everyday_knowledge", LONG_PROMPTS)
    games = [sampled_game(smollm2(), encoded) for encoded in prompts]
    yield f"Prompts of {', '.join(str(game.players) for game in games)} tokens at levels"
    yield f"{', '.join(map(str, games[0].levels))}. Columns as in shapley.md."
    yield ""
    yield from accuracy_table(estimate(games, 2, LONG_METHODS))


def main() -> None:
    lines = [
        f"`python -m benchmarks.explanations.shapley_costs`, {datetime.now(UTC):%Y-%m-%d}: "
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, float32."
    ]
    for line in sections():
        print(line, file=sys.stderr)
        lines.append(line)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shapley-costs.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
