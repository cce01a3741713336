"""Quantised checkpoints: their number format, and the packages that load them. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from prunelake.errors import ModelError

PACKAGES = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""The packages with which transformers loads each method, by the names that Python imports. Other
methods need none, or kernels for one kind of GPU, which transformers itself asks for."""


@dataclass(frozen=True)
class Quantisation:
    """How the weights of a checkpoint are quantised.

    `method` is its name in transformers, such as `bitsandbytes`; `weights` is the number format of
    the weights, such as `nf4`, and empty if the method has only one.
    """

    method: str
    weights: str

    @property
    def name(self) -> str:
        """The method and the format of the weights: `bitsandbytes-nf4`."""
        return f"{self.method}-{self.weights}" if self.weights else self.method


def read_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """The quantisation that a config.json describes; None for weights that are not quantised.

    read_quantisation({"quantization_config": {"quant_method": "gptq", "bits": 4}})
    """
    inner = config.get("text_config")
    settings = config.get("quantization_config") or (
        inner.get("quantization_config") if isinstance(inner, Mapping) else None
    )
    if not isinstance(settings, Mapping):
        return None
    method = settings.get("quant_method")
    if method is None:
        is_bitsandbytes = settings.get("load_in_4bit") or settings.get("load_in_8bit")
        method = "bitsandbytes" if is_bitsandbytes else "quantised"
    method = str(method).removesuffix("_4bit").removesuffix("_8bit")
    return Quantisation(method, _weight_format(method, settings))


def check_packages(quantisation: Quantisation, reference: str) -> None:
    """Refuse a checkpoint whose method needs a package that is not installed.

    Raises:
        ModelError: such a package; the message names it.
    """
    packages = PACKAGES.get(quantisation.method, ())
    if missing := [name for name in packages if find_spec(name) is None]:
        names = " ".join(name.replace("_", "-") for name in missing)
        raise ModelError(
            f"model {reference} is quantised by {quantisation.method}, which needs a package that "
            f"is not installed: pip install {names}"
        )


def check_row_independence(config: Mapping[str, Any], reference: str) -> None:
    """Refuse int8 weights of bitsandbytes with a threshold for outliers.

    It looks for outliers in a whole batch, so a row's numbers depend on the other rows, and levels
    cannot share a pass (the package's own documentation of LLM.int8; a test shows it).

    Raises:
        ModelError: such weights.
    """
    settings = config.get("quantization_config")
    found = read_quantisation(config)
    if found is None or found.name != "bitsandbytes-int8" or not isinstance(settings, Mapping):
        return
    threshold = settings.get("llm_int8_threshold", 6.0)
    if threshold:
        raise ModelError(
            f"model {reference} is quantised to int8 by bitsandbytes with llm_int8_threshold "
            f"{threshold}, so each row's numbers depend on the other rows of its batch; set it to "
            "0.0 in config.json, or take nf4"
        )


def _weight_format(method: str, settings: Mapping[str, Any]) -> str:
    """The number format of the weights; empty if the method's name says it, or nothing does."""
    if method == "bitsandbytes":
        return str(settings.get("bnb_4bit_quant_type", "fp4")) if _is_4bit(settings) else "int8"
    if method == "torchao":
        kind = settings.get("quant_type")
        default = kind.get("default") if isinstance(kind, Mapping) else kind
        name = default.get("_type") if isinstance(default, Mapping) else default
        return str(name or "").removesuffix("Config")
    if method == "compressed-tensors":
        groups = settings.get("config_groups")
        weights = [
            f"{group['weights']['type']}{group['weights']['num_bits']}"
            for group in (groups.values() if isinstance(groups, Mapping) else ())
            if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
        ]
        return "-".join(sorted(set(weights)))
    if method == "hqq":
        inner = settings.get("quant_config")
        inner = inner.get("weight_quant_params", inner) if isinstance(inner, Mapping) else {}
        bits = inner.get("nbits") if isinstance(inner, Mapping) else None
    else:
        bits = settings.get("bits", settings.get("w_bit"))
    return f"int{bits}" if bits else ""


def _is_4bit(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("load_in_4bit", settings.get("_load_in_4bit")))
