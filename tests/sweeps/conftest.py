"""A model that only plans need, and a function that plans a sweep of it."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps.plan import SweepPlan, plan_sweep
from tests.support.models.tiny_models import FAMILIES
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.models.weight_files import write_other_weights
from tests.support.sweeps.planned_sweep import CONTEXT, Planner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose weights cannot be read: a plan never reads them."""
    folder = tmp_path / "model"
    config = FAMILIES["llama"]()
    config.max_position_embeddings = CONTEXT
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    write_other_weights(folder / "model.safetensors", 100_000)
    return folder


@pytest.fixture
def planned(folder: Path, tmp_path: Path) -> Planner:
    """Plan a sweep of two rows of a bundled task; the arguments change its spec."""

    def planned(**changes: Any) -> SweepPlan:
        spec = {
            "model": str(folder),
            "task": "opinions",
            "rows": {"first": 2},
            "calibration": {"windows": 2, "window_tokens": 16},
            **changes,
        }
        return plan_sweep(
            SweepSpec.model_validate(spec), Settings(cache=tmp_path / "cache", data=None)
        )

    return planned
