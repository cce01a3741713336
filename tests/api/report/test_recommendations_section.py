"""The sentences of recommendations in the report."""

from types import SimpleNamespace
from typing import Any

import pytest

from prunelake.api.findings.wording import percent
from prunelake.api.report import recommendations_section


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({}, "Remove 2."),
        ({"kv_share": 0.9}, f"Remove 2. It takes {percent(0.9)} of the cache."),
    ],
)
def test_each_sentence_ends_with_a_full_stop(costs: dict[str, float], expected: str) -> None:
    answer: Any = SimpleNamespace(costs=costs)
    recommendation: Any = SimpleNamespace(busy_load=None)
    actual = recommendations_section._with_savings("Remove 2.", recommendation, answer)
    assert actual == expected
