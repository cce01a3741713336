"""Models on one GPU, on several, and in several places; doubles stand for GPUs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunelake.errors import ModelError
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models import loading
from prunelake.models.compact import save_compact
from prunelake.models.files.checkpoints import load_complete_model, skeleton
from prunelake.models.gpu import placement
from prunelake.models.gpu.placement import gpu_device_map
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from tests.support.models.tiny_models import LAYER_COUNT, tiny_model

ORDER = (3, 0, 4, 1, 2)
EMBEDDINGS = 97 * 32 * 4
BLOCK = 4 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32)
WHOLE = 2 * EMBEDDINGS + LAYER_COUNT * BLOCK + 4 * 32 + 32  # with the last norm and the rotation


def gpus(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """GPUs with these bytes of free memory."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(free))
    monkeypatch.setattr(placement, "free_bytes", lambda gpu: free[gpu])


def test_a_model_that_fits_one_gpu_goes_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 1, WHOLE)
    empty = skeleton(folder, torch.float32)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    assert gpu_device_map(empty, "cuda:1", "tiny") == {"": 1}
    gpus(monkeypatch, WHOLE - 1)
    with pytest.raises(
        ModelError, match=r"model tiny takes 0\.0 GB in float32, and cuda:0 has"
    ) as e:
        gpu_device_map(empty, "cuda:0", "tiny")
    assert "PRUNELAKE_DEVICE=cuda:all" in str(e.value)
    half = skeleton(folder, torch.bfloat16)
    assert gpu_device_map(half, "cuda:0", "tiny") == {"": 0}


def test_a_model_is_spread_evenly_over_all_gpus_in_whole_blocks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = skeleton(folder, torch.float32)
    gpus(monkeypatch, 10**9, 10**9)
    found = gpu_device_map(empty, "cuda:all", "tiny")
    blocks = [found[f"model.layers.{n}"] for n in range(LAYER_COUNT)]
    assert blocks == sorted(blocks)
    assert set(blocks) == {0, 1}
    assert found["model.embed_tokens"] == 0
    assert found["lm_head"] == 1
    gpus(monkeypatch, EMBEDDINGS + BLOCK, EMBEDDINGS)
    with pytest.raises(ModelError, match=r"on 2 GPUs; take a smaller dtype, more or larger GPUs"):
        gpu_device_map(empty, "cuda:all", "tiny")


def test_blocks_that_the_allocator_keeps_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (5, 80))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 60)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _: 20)
    assert placement.free_bytes(0) == 45


def test_a_compact_checkpoint_takes_the_memory_of_its_remaining_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact = tmp_path / "compact"
    compact.mkdir()
    save_compact(tiny_model("llama"), (1, 2), compact)
    removed = 4 * 2 * (2 * 32 * 32 + 2 * 32 * 16)
    gpus(monkeypatch, WHOLE - removed)
    assert gpu_device_map(skeleton(compact, torch.float32), "cuda:0", "tiny") == {"": 0}


@pytest.mark.parametrize("place", ["loading", "reading"])
def test_a_gpu_that_is_full_while_weights_arrive_is_named(
    place: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 10**9)
    monkeypatch.setattr(loading, "check_device", lambda _: None)
    message = "CUDA out of memory" if place == "loading" else "header too short"

    def fail(_: Path, *, dtype: torch.dtype, device_map: dict[str, int], **_options: Any) -> None:
        assert (dtype, device_map) == (torch.bfloat16, {"": 0})
        raise RuntimeError(message)

    monkeypatch.setattr(loading, "load_complete_model", fail)
    expected = "does not fit into the memory of cuda:0" if place == "loading" else "fetch"
    with pytest.raises(ModelError, match=expected):
        load_model(resolve_model(str(folder), tmp_path), "bfloat16", "cuda:0")


def test_a_model_in_several_places_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    """Blocks in memory and on disk, moved by accelerate's hooks as between GPUs."""
    places = {
        "model.embed_tokens": "cpu",
        **{f"model.layers.{n}": "disk" if n in (1, 3) else "cpu" for n in range(LAYER_COUNT)},
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "disk",
    }
    spread = load_complete_model(
        folder, dtype=torch.float32, device_map=places, offload_folder=tmp_path / "offload"
    )
    spread.eval().requires_grad_(False)
    assert {parameter.device.type for parameter in spread.parameters()} == {"cpu", "meta"}
    asked = [ScoringQuery((5, 6, n, 8), ((9, 10), (11,)), (0, 1, 2, 5)) for n in (7, 20, 21, 22)]
    expected = NestedModel(tiny_model("llama"), ORDER).log_likelihoods(asked)
    for got, wanted in zip(
        NestedModel(spread, ORDER).log_likelihoods(asked), expected, strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
