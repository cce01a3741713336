"""The error of explanations against exact Shapley values, by method and masks per token.

    python -m benchmarks.explanations.shapley [--seeds 10] [--games FOLDER]

SmolLM2-135M and Gemma 3 270M score every mask of short prompts at five removal levels. The file
`FOLDER/NAME.npz` keeps the scores of each prompt for the next run. All estimates use these scores.
Drawn games of 24 and 48 players with known Shapley values represent longer prompts. Prompts come
from $PRUNELAKE_DATA, from ../shared/data if that is a folder, or from the hub. The methods of
`shapiq` need that package (extra `bench`; version 1.8 needs Python 3.12). Writes
docs/measurements/shapley.md; `shapley_costs.py` measures costs.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.explanations.shapley_estimates import (
    Estimates,
    Found,
    accuracy_table,
    estimate,
    label,
    numbers,
    rank_correlation,
)
from benchmarks.explanations.shapley_games import LEVELS, TUNED_ON, drawn_game, short_games
from benchmarks.paths import RESULTS

DRAWN, DRAWN_GAMES = (24, 48), 10  # players


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--games", type=Path, help="folder that keeps the answers of the models")
    options = parser.parse_args()
    lines = [
        f"`python -m benchmarks.explanations.shapley --seeds {options.seeds}`, "
        f"{datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, captum {version('captum')}, "
        f"shapiq {version('shapiq')}, float32.",
        "",
        "Values by level stand side by side. Error: squared, over that of equal shares. Noise of "
        "change: variance over seeds of a level's scores less those of level 0, over the spread of "
        "the exact scores of level 0.",
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
