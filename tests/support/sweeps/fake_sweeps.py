"""Sweeps that compute nothing: their runs have given losses, and errors that shrink with n."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunelake.identity import content_hash
from prunelake.spec import SweepSpec
from tests.support.runs.criteria_runs import Loss, compared_run

EXPLAINED = ("comprehensiveness", "sufficiency")


@dataclass
class FakeSweeps:
    """Writes runs whose losses are given by level and metric, and whose errors shrink with n."""

    lake: Path
    losses: Mapping[int, Mapping[str, float]]
    spread: float = 0.2
    specs: list[SweepSpec] = field(default_factory=list)

    def __call__(self, spec: SweepSpec) -> str:
        self.specs.append(spec)
        count = spec.rows.sample or 0
        levels: dict[int, dict[str, Loss]] = {}
        for level in (1, 2, 3):
            levels[level] = {}
            for metric in ("accuracy", "ece", *EXPLAINED):
                n = count
                if metric in EXPLAINED:
                    is_explained = spec.explain and level in (spec.explain.levels or ())
                    n = spec.explain.rows_at(level, count) if spec.explain and is_explained else 0
                half = 1.65 * self.spread / n**0.5 if n else 0.0
                loss = self.losses.get(level, {}).get(metric, 0.0)
                levels[level][metric] = (loss, half) if n else None
        name = content_hash(spec.model_dump(mode="json"))
        columns: dict[str, Any] = {"task": "opinions", "spec": spec.model_dump_json()}
        return compared_run(self.lake, name, levels, n=count, **columns)
