from typing import Any

import numpy as np
import pytest
import torch

from prunelake.errors import ModelError
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models import precision
from prunelake.models.gpu.device_names import FLOAT32_SLOWDOWN
from prunelake.models.precision import (
    matmul_precision,
    set_matmul_precision,
    slow_format_warning,
    weight_dtype,
)
from prunelake.spec import Dtype, Strategy
from prunelake.strategies.removal_order import removal_order
from tests.support.models.tiny_models import tiny_model

QUERIES = [ScoringQuery((*range(3, 40),), ((5, 6), (7,)), (0, 2, 5))]
ORDER = (3, 0, 4, 1, 2)


def _can_round() -> bool:
    model = tiny_model("llama")
    try:
        set_matmul_precision(model, "float32_bf16")
    except ModelError:
        return False
    return True


needs_rounding = pytest.mark.skipif(
    not _can_round(), reason="this CPU does not multiply float32 in bfloat16"
)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", torch.float32),
        ("float32_bf16", torch.float32),
        ("tf32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
    ],
)
def test_the_weight_type_follows_from_the_number_format(dtype: str, expected: torch.dtype) -> None:
    assert weight_dtype(dtype) is expected  # type: ignore[arg-type]  # a valid name


@needs_rounding
def test_products_are_rounded_only_for_a_model_that_asks_for_it() -> None:
    exact, rounding = tiny_model("llama"), tiny_model("llama")
    set_matmul_precision(rounding, "float32_bf16")
    (before,) = NestedModel(exact, ORDER).log_likelihoods(QUERIES)
    (rounded,) = NestedModel(rounding, ORDER).log_likelihoods(QUERIES)
    (after,) = NestedModel(exact, ORDER).log_likelihoods(QUERIES)
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(rounded, before)
    np.testing.assert_allclose(rounded, before, rtol=0.05)


@needs_rounding
def test_importance_is_computed_in_the_precision_of_the_model() -> None:
    exact, rounding = tiny_model("llama"), tiny_model("llama")
    set_matmul_precision(rounding, "float32_bf16")
    windows = [[*range(3, 60)]]
    one, other = (removal_order(m, Strategy(), windows).importance for m in (exact, rounding))
    assert one != other
    np.testing.assert_allclose(one, other, atol=0.02)


def test_the_former_precision_is_restored_after_an_error() -> None:
    model = tiny_model("llama")
    setattr(model, precision.MATMUL_PRECISION_ATTRIBUTE, "medium")
    with pytest.raises(ModelError, match="medium"), matmul_precision(model):
        raise ModelError(torch.get_float32_matmul_precision())
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_device_that_does_not_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else float32 results would be stored under another name.
    monkeypatch.setattr(precision, "_matmul_rounds_to_bfloat16", lambda _: False)
    with pytest.raises(ModelError, match="cpu does not multiply float32 in bfloat16"):
        set_matmul_precision(tiny_model("llama"), "float32_bf16")


def test_tf32_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    with pytest.raises(ModelError, match="cpu does not multiply in TF32"):
        set_matmul_precision(model, "tf32")
    monkeypatch.setattr(type(model), "device", torch.device("cuda", 0))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (7, 5))
    with pytest.raises(ModelError, match="cuda:0 does not multiply in TF32"):
        set_matmul_precision(model, "tf32")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    set_matmul_precision(model, "tf32")
    with matmul_precision(model):
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_pass_does_without_the_attention_of_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    seen = []
    nested = NestedModel(tiny_model("llama"), ORDER)
    run = nested.run_batch

    def noting(*arguments: Any) -> Any:
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return run(*arguments)

    monkeypatch.setattr(nested, "run_batch", noting)
    nested.log_likelihoods(QUERIES)
    assert seen == [False]
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


@pytest.mark.parametrize("device", ["cuda:0", "cuda:all", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_a_slow_format_on_a_gpu_is_a_warning_with_its_price(dtype: Dtype, device: str) -> None:
    warning = slow_format_warning(dtype, device)
    if dtype == "float32" and device != "cpu":
        assert warning is not None
        assert f"about {FLOAT32_SLOWDOWN} times as long as bfloat16" in warning
    else:
        assert warning is None


def test_freed_memory_is_kept_without_changing_numbers() -> None:
    model = tiny_model("llama")
    (before,) = NestedModel(model, ORDER).log_likelihoods(QUERIES)
    precision.keep_freed_memory()
    (after,) = NestedModel(model, ORDER).log_likelihoods(QUERIES)
    np.testing.assert_array_equal(before, after)
