"""Do cheap scores save explanations? Control variates for mean comprehensiveness and sufficiency.

    python -m benchmarks.explanations.control_variates --games FOLDER

An expensive value y is known for n explained rows, a cheap value x for all N rows. The control
variate (prediction-powered inference with tuned power: Angelopoulos, Duchi and Zrnic, PPI++, 2023)
is

    mean_n(y) - b (mean_n(x) - mean_N(x)),   b = cov(x, y) / var(x),

whose variance is var(y) (1 - r^2) / n + var(y) r^2 / N, where r is the correlation of x and y.
Cheap values are the change of a row's confidence, which every prediction has at no cost (rows of
the recorded lake), and the deletion curve of leave-one-out scores of level 0, which need one mask
per token at one level (games of `shapley.py` in FOLDER). Writes
docs/measurements/control-variates.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from benchmarks.explanations.shapley_estimates import deleted, numbers, rank_correlation
from benchmarks.explanations.shapley_games import LEVELS, Floats, Game, short_games
from benchmarks.paths import RESULTS
from prunelake.lake.recorded import RECORDED_LAKE, unpack_lake
from prunelake.lake.sql.views import query

DRAWS, ALL_ROWS, EXPLAINED = 4000, 500, (24, 48)

CHANGES = """
with areas as (
    select run_id, level, example_id, kind, value
    from aopc
    where method != 'random' and operator = 'delete_text' and variant = 'eraser'
)

select
    areas.kind,
    areas.level,
    list(areas.value - unpruned.value order by areas.example_id) as change,
    list(predictions.confidence - first.confidence order by areas.example_id) as confidence
from areas
inner join areas as unpruned
    on
        areas.run_id = unpruned.run_id
        and areas.example_id = unpruned.example_id
        and areas.kind = unpruned.kind
        and unpruned.level = 0
inner join predictions
    on
        areas.run_id = predictions.run_id
        and areas.level = predictions.level
        and areas.example_id = predictions.example_id
inner join predictions as first
    on
        areas.run_id = first.run_id and areas.example_id = first.example_id and first.level = 0
where areas.level > 0
group by areas.kind, areas.level
order by areas.kind, areas.level
"""


def interval(y: Floats, x: Floats, mean_x: float, total: int) -> tuple[float, float]:
    """The estimate and the half width of its 95 % interval; without x if it is constant."""
    count, centred = len(y), x - x.mean()
    slope = float(centred @ y / (centred @ centred)) if centred.any() else 0.0
    residual = float((y - slope * x).var(ddof=2))
    variance = residual * (1 / count - 1 / total) + float(y.var(ddof=1)) / total
    estimate = float(y.mean() - slope * (x.mean() - mean_x))
    return estimate, float(student.ppf(0.975, count - 2) * np.sqrt(variance))


def simulated(y: Floats, x: Floats, explained: int) -> tuple[float, float, float]:
    """Coverage with and without the control variate, and the ratio of the widths.

    The rows are drawn from the known rows, whose mean is the truth.
    """
    rng = np.random.default_rng(0)
    hits, plain_hits, ratios = 0, 0, []
    for _ in range(DRAWS):
        rows = rng.integers(len(y), size=ALL_ROWS)
        own_y, own_x = y[rows[:explained]], x[rows[:explained]]
        estimate, width = interval(own_y, own_x, float(x[rows].mean()), ALL_ROWS)
        plain = student.ppf(0.975, explained - 1) * own_y.std(ddof=1) / np.sqrt(explained)
        hits += abs(estimate - y.mean()) <= width
        plain_hits += abs(own_y.mean() - y.mean()) <= plain
        ratios.append(width / plain)
    return hits / DRAWS, plain_hits / DRAWS, float(np.mean(ratios))


def confidence_table() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        lake = unpack_lake(RECORDED_LAKE, Path(folder))
        rows = query(lake, CHANGES).to_dicts()
    yield "| kind | level | rows | correlation | explained | coverage | plain | width, ratio |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        y, x = np.array(row["change"]), np.array(row["confidence"])
        correlation = float(np.corrcoef(x, y)[0, 1])
        for explained in EXPLAINED:
            found = " | ".join(f"{value:.3f}" for value in simulated(y, x, explained))
            yield (
                f"| {row['kind']} | {row['level']} | {len(y)} | {correlation:.2f} | {explained} | "
                f"{found} |"
            )


def leave_one_out(game: Game) -> Floats:
    """The nats [players] that level 0 loses without each player."""
    masks = np.concatenate([np.ones((1, game.players)), 1 - np.eye(game.players)]) == 1
    full, *without = game.values(masks, game.levels[0])
    return np.asarray(full - np.array(without))


def leave_one_out_table(folder: Path) -> Iterator[str]:
    yield "| model | prompts | rank correlation with the exact scores of level 0 | correlation of |"
    yield "|---|---:|---:|---|"
    for model in LEVELS:
        games = short_games(model, folder)
        cheap = [leave_one_out(game) for game in games]
        ranks = [
            rank_correlation(own, game.exact[0]) for own, game in zip(cheap, games, strict=True)
        ]
        curves = np.array(
            [
                [
                    [deleted(game, level, exact), deleted(game, level, own)]
                    for level, exact in zip(game.levels, game.exact, strict=True)
                ]
                for own, game in zip(cheap, games, strict=True)
            ]
        )  # [games, levels, exact and cheap]
        first = np.corrcoef(curves[:, 0].T)[0, 1]
        changes = curves[:, 1:] - curves[:, :1]
        found = [np.corrcoef(changes[:, n].T)[0, 1] for n in range(changes.shape[1])]
        yield (
            f"| {model} | {len(games)} | {np.mean(ranks):.2f} | level 0: {first:.2f}; changes: "
            f"{numbers(found)} |"
        )


def sections(folder: Path) -> Iterator[str]:
    yield "\n## Change of confidence, for nothing\n"
    yield from confidence_table()
    yield "\n## Comprehensiveness of leave-one-out scores of level 0\n"
    yield from leave_one_out_table(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=Path, required=True, help="as of `shapley.py`")
    options = parser.parse_args()
    lines = [f"`python -m benchmarks.explanations.control_variates`, {datetime.now(UTC):%Y-%m-%d}."]
    for line in sections(options.games):
        print(line, file=sys.stderr)
        lines.append(line)
    (RESULTS / "control-variates.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
