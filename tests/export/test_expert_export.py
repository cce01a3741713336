"""Checkpoints without experts: smaller models that transformers loads."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.models.tiny_decoders import BLOCKS, build_tiny
from prunelake.errors import ExportError, UnsupportedModel
from prunelake.export.checkpoint import write_checkpoint
from prunelake.export.export import ExportRequest, export_model
from prunelake.models.compact import save_compact
from prunelake.models.expert_deletion import smaller_model
from prunelake.models.removal import detached, zero_out
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import CheckpointKind, Strategy
from tests.support.models.expert_models import (
    COUNT_FIELDS,
    EXPERTS,
    ONE_EACH,
    kept_experts,
    logits,
    numbers_of,
    smaller_mixture,
)
from tests.support.models.tiny_tokenizer import tiny_tokenizer


@pytest.mark.parametrize("model_type", ["deepseek_v2", "qwen3_moe"])
def test_transformers_loads_a_model_without_the_experts(model_type: str, tmp_path: Path) -> None:
    model = build_tiny(model_type)
    model.save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    source = resolve_model(str(tmp_path / "whole"), tmp_path, "expert")
    numbers, out = numbers_of(ONE_EACH), tmp_path / "smaller"
    write_checkpoint(source, numbers, CheckpointKind.portable, out, "card", unit="expert")
    loaded = AutoModelForCausalLM.from_pretrained(out).eval()
    assert getattr(loaded.config, COUNT_FIELDS[model_type]) == EXPERTS - 1
    expected = logits(smaller_mixture(model, model_type, kept_experts(ONE_EACH)))
    assert torch.allclose(logits(loaded), expected, atol=1e-4)
    with detached(model, numbers, "expert"):
        assert sum(p.numel() for p in model.parameters()) == loaded.num_parameters()


def test_forms_without_a_meaning_for_experts_are_refused(tmp_path: Path) -> None:
    model = build_tiny("mixtral")
    before = logits(model)
    with pytest.raises(UnsupportedModel, match="no output weights that could be zero"):
        zero_out(model, [0], "expert")
    with pytest.raises(UnsupportedModel, match="no need of a compact checkpoint"):
        save_compact(model, [0], tmp_path, "expert")
    with (
        pytest.raises(UnsupportedModel, match="blocks would keep 3 or 4 experts"),
        detached(model, [0], "expert"),
    ):
        pass
    assert torch.equal(logits(model), before)
    model.save_pretrained(tmp_path / "tiny")
    strategy = Strategy(name="use", unit="expert")
    request = ExportRequest(str(tmp_path / "tiny"), strategy, 1, CheckpointKind.compact)
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path, device="cpu")
    with pytest.raises(ExportError, match="--kind portable"):
        export_model(request, tmp_path / "out", settings, print)


def test_a_configuration_that_counts_other_experts_too_is_refused() -> None:
    model = build_tiny("jetmoe")  # its attention has experts, too
    numbers = [block * EXPERTS for block in range(BLOCKS)]
    with pytest.raises(UnsupportedModel, match="such a model cannot be saved"):
        smaller_model(model, numbers)
