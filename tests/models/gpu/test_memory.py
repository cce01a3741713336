"""Memory for activations, and which errors of torch mean too little memory; no GPU is needed."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from prunelake.inference.batches import max_gradient_tokens, max_tokens_in_memory
from prunelake.models.gpu import memory
from prunelake.models.gpu.memory import is_device_failure, is_out_of_memory
from tests.support.models.tiny_models import LAYER_COUNT, tiny_model

H100_BYTES = 80 * 2**30


def test_the_libraries_of_a_gpu_report_too_little_memory_in_their_own_words() -> None:
    accelerator_error = getattr(torch, "AcceleratorError", RuntimeError)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert is_out_of_memory(accelerator_error("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
    assert not is_out_of_memory(MemoryError("out of memory"))


def test_a_gpu_that_failed_differs_from_a_full_gpu() -> None:
    failure = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert is_device_failure(failure)
    assert not is_device_failure(torch.AcceleratorError("CUDA error: out of memory"))
    assert not is_device_failure(RuntimeError("an illegal memory access"))


class OnGpus:
    """Stands for a model whose weights lie on GPUs: bytes by device."""

    dtype = torch.bfloat16
    config = SimpleNamespace(
        get_text_config=lambda: SimpleNamespace(
            hidden_size=4096, intermediate_size=11008, num_hidden_layers=32
        )
    )

    def __init__(self, **weights: int) -> None:
        self._weights = [
            SimpleNamespace(device=torch.device("cuda", int(name[1:])), nbytes=size)
            for name, size in weights.items()
        ]

    def parameters(self) -> list[Any]:
        return self._weights

    def buffers(self) -> list[Any]:
        return []


def on_gpus(monkeypatch: pytest.MonkeyPatch, **weights: int) -> PreTrainedModel:
    """A model on H100s. Torch's allocator keeps more of their memory each time it is asked."""
    kept = iter(range(0, 40 * 2**30, 2**30))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (H100_BYTES - next(kept), H100_BYTES))
    properties = SimpleNamespace(total_memory=H100_BYTES)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)
    return cast(PreTrainedModel, OnGpus(**weights))


def test_a_later_shard_has_the_budget_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_gpus(monkeypatch, g0=14 * 2**30)
    expected = (80 - 2 - 14) * 2**30 // 2
    assert [memory.activation_bytes(model) for _ in range(2)] == [expected] * 2
    assert [max_tokens_in_memory(model) for _ in range(2)] == [expected // (2 * 76800)] * 2


def test_the_fullest_gpu_of_a_spread_model_bounds_the_activations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = on_gpus(monkeypatch, g0=20 * 2**30, g1=30 * 2**30)
    assert memory.activation_bytes(model) == (80 - 2 - 30) * 2**30 // 2
    assert memory.activation_bytes(on_gpus(monkeypatch, g0=90 * 2**30)) == 1


def test_a_backward_pass_of_7b_has_a_budget_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps about 5 MB for each token, so that 32 GiB hold some 6,000 tokens."""
    assert 5_000 < max_gradient_tokens(on_gpus(monkeypatch, g0=14 * 2**30)) < 7_000


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_neox"])
def test_the_gradient_budget_covers_the_tensors_of_a_backward_pass(family: str) -> None:
    model = tiny_model(family, hidden_size=64, intermediate_size=160)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    embeddings = torch.zeros(2, 16, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(inputs_embeds=embeddings, use_cache=False)
    counted = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 32
    allowed = memory.CPU_ACTIVATION_BYTES / max_gradient_tokens(model)
    assert len(kept) > 10 * LAYER_COUNT
    assert 1 <= allowed / counted < 2.1
