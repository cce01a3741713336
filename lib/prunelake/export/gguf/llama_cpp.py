"""Quantise a GGUF file by llama.cpp itself, from the package llama-cpp-py-sync."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

from prunelake.errors import ExportError
from prunelake.extras import require_extra

Q4_K_M = 15
"""llama.cpp's number of the mixture of formats."""

LARGEST_ERROR = 0.15
"""The largest error of a tensor, as a share of its norm. 4 bits of weights cost about 0.07."""


def quantise_by_llama_cpp(file: Path) -> None:
    """Replace a GGUF file by its quantisation to Q4_K_M.

    Raises:
        MissingExtra: the package is not installed.
        ExportError: llama.cpp fails, or returns other tensors.
    """
    require_extra("llama-cpp")
    bindings: Any = import_module("llama_cpp_py_sync._cffi_bindings")
    library, ffi = bindings.get_lib(), bindings.get_ffi()
    options = ffi.new(
        "llama_model_quantize_params *", library.llama_model_quantize_default_params()
    )
    options.ftype = Q4_K_M
    silent = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda *_: None)
    library.llama_log_set(silent, ffi.NULL)
    target = file.with_suffix(".q4_k_m")
    try:
        status = library.llama_model_quantize(bytes(file), bytes(target), options)
    finally:
        library.llama_log_set(ffi.NULL, ffi.NULL)
    if status:
        raise ExportError(f"llama.cpp cannot quantise {file.name} (llama_model_quantize: {status})")
    _check_tensors(file, target)
    target.rename(file)


def tensor_formats(file: Path) -> dict[str, list[str]]:
    """The names of the matrices in each format of a GGUF file, without the numbers of blocks."""
    formats: dict[str, set[str]] = {}
    for tensor in GGUFReader(file).tensors:
        if len(tensor.shape) > 1:
            formats.setdefault(tensor.tensor_type.name, set()).add(tensor.name.split(".")[-2])
    return {name: sorted(formats[name]) for name in sorted(formats)}


def _check_tensors(before: Path, after: Path) -> None:
    expected, found = (_tensors(file) for file in (before, after))
    if expected.keys() != found.keys():
        raise ExportError(f"{before.name}: llama.cpp wrote other tensors")
    for name, values in expected.items():
        error = float(np.linalg.norm(found[name] - values))
        if not error <= LARGEST_ERROR * float(np.linalg.norm(values)):  # true for NaN, too
            raise ExportError(f"{before.name}: llama.cpp rounded tensor {name} too much")


def _tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type).ravel()
        for tensor in GGUFReader(file).tensors
    }
