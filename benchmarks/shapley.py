"""The error of explanations over their cost, against exact Shapley values.

    python -m benchmarks.shapley [--seeds 10] [--games FOLDER]

SmolLM2-135M and Gemma 3 270M answer every mask of short prompts at five removal levels (with the
file `FOLDER/NAME.npz` for each prompt, which the next run reads). All estimates are then made from
these answers. Drawn games of 24 and 48 players, whose Shapley values are known, stand for longer
prompts; so do a few real ones, whose reference is Leverage SHAP with 100 masks per token. Forward
tokens are counted in sweeps of 16 levels. Prompts come from $PRUNELAKE_DATA, from ../shared/data if
that is a folder, or from the hub. The methods of `shapiq` need that package (extra `bench`; version
1.8 needs Python 3.12). Writes benchmarks/results/shapley.md.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shapley_estimates import (
    LONG_METHODS,
    METHODS,
    Estimates,
    Found,
    Samples,
    estimate,
    rank_correlation,
)
from benchmarks.shapley_games import (
    LEVELS,
    TUNED_ON,
    Floats,
    Player,
    drawn_game,
    examples,
    sampled_game,
    short_games,
)
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.spec import Explanation, Rows

DRAWN, DRAWN_GAMES = (24, 48), 10  # players
LONG_PROMPTS = Rows(numbers=(0, 5))  # of everyday_knowledge
COST_PROMPTS = {
    "everyday_knowledge": Rows(numbers=(0, 5, 10)),
    "arc_easy": Rows(numbers=(0, 7, 20)),
}
COST_LEVELS = tuple(range(16))
RESULTS = Path(__file__).parent / "results"


def numbers(values: Sequence[float] | Floats, digits: int = 2) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def label(name: str, samples: Samples) -> str:
    """The name and the masks per token: `difference_shap 7; 0.5, 1.5`."""
    if not isinstance(samples, tuple):
        return f"{name} {samples:g}"
    first, *stages = (f"{count:g}" for count in samples)
    return f"{name} {first}; {', '.join(stages)}"


def accuracy_table(found: Found) -> Iterator[str]:
    yield "| method, masks per token | asked, by level | error | rank correlation |"
    yield "|---|---|---|---|"
    for (name, samples), own in found.items():
        cells = (numbers(own.masks, 1), numbers(own.errors()), numbers(own.rank_correlations()))
        yield f"| {label(name, samples)} | {' | '.join(cells)} |"


def faithfulness_table(found: Found) -> Iterator[str]:
    games = next(iter(found.values())).games
    exact = Estimates(games, [game.exact[None] for game in games], np.zeros(0))
    best = exact.comprehensiveness()
    yield f"Comprehensiveness in nats of the exact values, by level: {numbers(best)}."
    yield ""
    yield "| method, masks per token | share of it | change from level 0, less the exact change |"
    yield "|---|---|---|"
    for (name, samples), estimates in found.items():
        own = estimates.comprehensiveness()
        change = (own - own[0] - (best - best[0])) / best[0]
        yield f"| {label(name, samples)} | {numbers(own / best, 3)} | {numbers(change, 3)} |"


@cache
def smollm2() -> Player:
    return Player.load("smollm2")


def cost_table() -> Iterator[str]:
    """Forward tokens of attributions at 16 levels.

    Only `difference_shap` chooses masks by values, and asks SmolLM2; others an untrained model.
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
            for name, samples in METHODS:
                if name.startswith("shapiq"):
                    continue
                given = {"leverage_samples": samples} if name == "leverage_shap" else {}
                if isinstance(samples, tuple):
                    given = {"unpruned_samples": samples[0], "difference_samples": samples[1:]}
                elif name == "kernel_shap" and samples != 3:
                    continue
                asked = model.model if isinstance(samples, tuple) else untrained
                nested = NestedModel(asked, order)
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


def sections(seeds: int, folder: Path) -> Iterator[str]:
    for model, levels in LEVELS.items():
        games = [game for game in short_games(model, folder) if (model, game.players) != TUNED_ON]
        lengths = sorted({game.players for game in games})
        yield f"\n## {model}: {len(games)} prompts of {lengths[0]} to {lengths[-1]} tokens\n"
        similarity = np.mean(
            [[rank_correlation(own, game.exact[0]) for own in game.exact] for game in games], axis=0
        )
        yield f"Levels {', '.join(map(str, levels))}. All masks were asked. Rank correlation of a"
        yield f"level's exact values with those of level 0: {numbers(similarity)}."
        yield ""
        found = estimate(games, seeds)
        yield from accuracy_table(found)
        yield ""
        yield from faithfulness_table(found)
    for players in DRAWN:
        yield f"\n## {DRAWN_GAMES} drawn games of {players} players\n"
        drawn = [drawn_game(players, seed) for seed in range(DRAWN_GAMES)]
        yield from accuracy_table(estimate(drawn, max(2, seeds // 3)))
    yield "\n## Longer prompts of smollm2, against 100 masks per token\n"
    prompts = examples("smollm2", "everyday_knowledge", LONG_PROMPTS)
    long_games = [sampled_game(smollm2(), encoded) for encoded in prompts]
    yield f"Prompts of {', '.join(str(game.players) for game in long_games)} tokens."
    yield ""
    yield from accuracy_table(estimate(long_games, 2, LONG_METHODS))
    yield "\n## Forward tokens of a sweep of smollm2 at levels 0 to 15\n"
    yield from cost_table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--games", type=Path, help="folder that keeps the answers of the models")
    options = parser.parse_args()
    lines = [
        f"`python -m benchmarks.shapley --seeds {options.seeds}`, {datetime.now(UTC):%Y-%m-%d}: "
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"captum {version('captum')}, shapiq {version('shapiq')}, float32.",
        "",
        "Values by level stand side by side. Error: squared, over that of equal shares.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.games or Path(temporary)
        folder.mkdir(exist_ok=True)
        for line in sections(options.seeds, folder):
            print(line, file=sys.stderr)
            lines.append(line)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shapley.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
