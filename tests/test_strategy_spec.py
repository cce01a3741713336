"""Every strategy is defined, and described for the readers of a report."""

import re
from typing import get_args

from prunelake.api.report.document import IMPORTANCE_DEFINITIONS
from prunelake.strategy_spec import STRATEGIES, StrategyName, strategies_that
from tests.support.paths import ROOT


def test_every_strategy_has_a_definition() -> None:
    assert set(STRATEGIES) == {*get_args(StrategyName)}, "change both in strategy_spec.py"


def test_every_strategy_is_described_to_readers() -> None:
    assert set(STRATEGIES) == {*IMPORTANCE_DEFINITIONS}, "api/report/document.py"
    of_layers = strategies_that(lambda known: known.orders_layers)
    of_experts = [f"expert:{name}" for name in strategies_that(lambda known: known.orders_experts)]
    for page, names in (
        ("docs/evaluate.md", of_layers),
        ("docs/statistics.md", of_layers),
        ("docs/models.md", of_experts),
    ):
        described = set(re.findall(r"`([\w:]+?)(?::SEED)?`", (ROOT / page).read_text("utf-8")))
        assert {*names} <= described, f"{page}, {sorted({*names} - described)}"
