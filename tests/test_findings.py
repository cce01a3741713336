import polars as pl
import pytest

from api import findings
from api.findings import Guessing
from tests.level_rows import Values, levels

ACCURACY = {0: 0.61, 2: 0.62, 4: 0.59, 6: 0.5, 8: 0.61}


@pytest.mark.parametrize(
    ("accuracy", "held", "shown"),
    [
        (ACCURACY, 4, 4),  # by 0.02 exactly it holds; level 8 lies behind a fall
        ({0: 0.5, 2: 0.4, 4: 0.5}, 0, 2),
        ({0: 0.5, 2: 0.7, 4: 0.5}, 4, 4),
        ({0: 0.5, 2: 0.5, 4: None, 6: 0.5}, 2, 2),
        ({0: 0.5}, 0, None),
        ({0: None, 2: 0.5}, None, None),
    ],
)
def test_where_accuracy_holds(accuracy: Values, held: int | None, shown: int | None) -> None:
    rows = levels(accuracy=accuracy).sample(fraction=1, shuffle=True, seed=3)
    assert findings.held_level(rows) == held
    assert findings.shown_level(rows) == shown


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (
            {
                "accuracy": ACCURACY,
                "ece": {0: 0.1, 4: 0.174},
                "comprehensiveness": {0: 0.3, 4: 0.2},
                "sufficiency": {0: 0.201, 4: 0.199},
            },
            "Accuracy falls by no more than 0.02 up to level 4 (0.61 to 0.59). At level 4 ECE "
            "rises 0.10 to 0.17 (worse), comprehensiveness falls 0.30 to 0.20 (worse) and "
            "sufficiency stays at 0.20.",
        ),
        (
            {"accuracy": {0: 0.5, 2: 0.52}, "ece": {0: 0.2, 2: 0.1}},
            "Accuracy falls by no more than 0.02 at any level up to 2, the deepest one evaluated "
            "(0.50 to 0.52). At level 2 ECE falls 0.20 to 0.10 (better).",
        ),
        (
            {"accuracy": {0: 0.5, 2: 0.4}},
            "Accuracy falls by more than 0.02 already at level 2, the first one evaluated "
            "(0.50 to 0.40).",
        ),
        (
            {"accuracy": {0: 0.5, 2: 0.5}, "comprehensiveness": {0: 0.1}, "sufficiency": {0: 0.1}},
            "Accuracy falls by no more than 0.02 at any level up to 2, the deepest one evaluated "
            "(0.50 to 0.50). Explanations of levels 0 and 2 cannot be compared: not both have "
            "scores.",
        ),
        ({"accuracy": {0: 0.5}}, "Accuracy is 0.50 unpruned; no pruned level was evaluated."),
        ({"accuracy": {0: None, 2: None}}, "No accuracy could be computed."),
    ],
)
def test_the_summary_in_words(metrics: dict[str, Values], expected: str) -> None:
    assert findings.summary(levels(80, 10, **metrics)) == expected


def test_the_caveat_names_n_and_standard_error() -> None:
    accuracy = {0: 0.5}
    text = (
        "These are point estimates, not tests: n = 100 examples, and the standard error of the "
        "unpruned accuracy is 0.050."
    )
    assert findings.caveat(levels(n=100, accuracy=accuracy)) == text
    assert findings.caveat(
        levels(n=100, explained=10, accuracy=accuracy, comprehensiveness={0: 0.1})
    ) == (text + " Comprehensiveness and sufficiency rest on the n = 10 explained ones.")
    assert findings.caveat(levels(accuracy={0: None})) == "No example could be scored at level 0."


@pytest.mark.parametrize(
    ("accuracy", "guessing", "near"),
    [
        (0.6, Guessing(0.5, 0.5), ["at random (0.50)", "frequent one (0.50)"]),  # 2 x 0.049 away
        (0.6, Guessing(0.25, 0.55), ["frequent one (0.55)"]),
        (0.6, Guessing(0.25, 0.5), ["frequent one (0.50)"]),
        (0.3, Guessing(0.5, 0.1), ["at random (0.50)"]),  # below chance is not above it
        (0.7, Guessing(0.5, 0.6), []),
    ],
)
def test_near_chance(accuracy: float, guessing: Guessing, near: list[str]) -> None:
    text = findings.near_chance(levels(n=96, accuracy={0: accuracy}), guessing)
    assert (text is None) == (not near)
    for part in ("at random", "frequent one"):
        assert (part in (text or "")) == any(part in expected for expected in near)
    for expected in near:
        assert expected in (text or "")


def test_an_explanation_no_better_than_random_is_named() -> None:
    rows = levels(
        comprehensiveness={0: 0.3, 2: 0.1, 4: 0.0},
        random_comprehensiveness={0: 0.1, 2: 0.1, 4: 0.5},
        sufficiency={0: 0.3, 2: 0.1},
        random_sufficiency={0: 0.2, 2: 0.2},
    )
    assert findings.against_random(rows, 2) == (
        "No better than a random ranking of the tokens: comprehensiveness at level 2 (0.10, random "
        "0.10) and sufficiency unpruned (0.30, random 0.20)."
    )
    better = rows.filter((pl.col("metric") == "sufficiency") & (pl.col("level") == 2))
    assert findings.against_random(better, 2) is None


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0.125001, "0.13", "+0.13"),
        (-0.5, "\N{MINUS SIGN}0.50", "\N{MINUS SIGN}0.50"),
        (-0.001, "0.00", "0.00"),
        (0.001, "0.00", "0.00"),
        (None, "\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_numbers_as_text(value: float | None, plain: str, with_sign: str) -> None:
    assert findings.number(value) == plain
    assert findings.signed(value) == with_sign
