"""Sweeps of a simulated model: each writes a real run of the first rows of one population."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prunelake.identity import RunIdentity
from prunelake.lake.read import has_run
from prunelake.schema.table import FORMAT_VERSION
from prunelake.spec import SweepSpec
from tests.support.runs.lake_rows import example, prediction, run_row, write

POPULATION = 500
"""The rows of the task `opinions`."""


@dataclass
class SimulatedSweeps:
    """Level 0 is right on 80 % of the rows; level 1 gives another answer on a share of them."""

    lake: Path
    flipped: float
    seed: int = 0
    specs: list[SweepSpec] = field(default_factory=list)

    def __call__(self, spec: SweepSpec) -> str:
        self.specs.append(spec)
        generator = np.random.default_rng(self.seed)
        is_right = generator.random(POPULATION) < 0.8
        is_flipped = generator.random(POPULATION) < self.flipped
        count = spec.rows.sample or 0
        identity = RunIdentity(
            format_version=FORMAT_VERSION,
            revision=f"{self.flipped} {self.seed}",
            task=spec.task,
            data_hash=str(count),
            levels=(0, 1),
            strategy=spec.strategy,
            calibration_hash=None,
            explain=None,
            dtype="float32",
            special_tokens="tokenizer",
            search_hash=None,
            sequential=spec.sequential,
        )
        run_id = identity.run_id
        run = run_row(
            run_id=run_id,
            identity=identity.model_dump_json(),
            task=spec.task,
            example_count=count,
            spec=spec.model_dump_json(),
        )
        if has_run(self.lake, run_id):
            return run_id
        names = [f"test:{number:03}" for number in range(count)]
        answers = {0: is_right, 1: is_right ^ is_flipped}
        return write(
            self.lake,
            run,
            20,  # resamples: only means need more
            predictions=[
                prediction(run_id, level, name, [0.0, -2.0] if right[i] else [-2.0, 0.0])
                for level, right in answers.items()
                for i, name in enumerate(names)
            ],
            examples=[example(run_id, name, position=i) for i, name in enumerate(names)],
        )
