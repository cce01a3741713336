"""A sweep that counts the tokens of its model and the shards that it computes."""

from typing import Any

import pytest

from prunelake.lake.partial_runs import ORDER_SHARD
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps import steps
from prunelake.sweeps.evaluate import evaluate_shard
from tests.support.sweeps.sweep_processes import quick_sweep

SHARDS = ["000000-000002", "000002-000005"]
"""The shards of `small_sweep`."""


class Counted:
    """A sweep without a server, and the requests to its model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sweep = quick_sweep(monkeypatch)
        self.tokens = 0.0
        self.shards: list[str] = []
        self.failing: str | None = None

        def counted(work: Any, encoder: Any, model: Any, report: Any) -> Any:
            if work.shard.name == self.failing:
                raise RuntimeError("the power is gone")
            found = evaluate_shard(work, encoder, model, report)
            self.tokens += model.forward_tokens
            self.shards.append(work.shard.name)
            return found

        def ordered(model: Any, strategy: Any, windows: Any, *others: Any) -> Any:
            self.tokens += sum(map(len, windows))
            self.shards.append(ORDER_SHARD)
            return removal_order(model, strategy, windows, *others)

        monkeypatch.setattr(steps, "evaluate_shard", counted)
        monkeypatch.setattr(steps, "removal_order", ordered)
