"""Write a Llama without attention layers or blocks as a GGUF file for llama.cpp.

llama.cpp runs a block without attention in its graph `deci`, where the block has no heads. This
graph is a Llama with a number of heads for each block. Without whole blocks, a Llama is a smaller
`llama`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.errors import ExportError, UnsupportedModel
from prunelake.export.fewer_blocks import model_with_fewer_blocks
from prunelake.export.gguf.gguf_tokenizer import add_tokenizer
from prunelake.export.gguf.llama_cpp import quantise_by_llama_cpp
from prunelake.spec import GgufQuantisation, Unit

GGUF_FILE = "model.gguf"
QUANTISED_ROW = 32
"""The number of values that share a scale in Q8_0."""


FORMATS = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.float16: gguf.GGMLQuantizationType.F16,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
}
FILE_TYPES = {
    gguf.GGMLQuantizationType.F32: gguf.LlamaFileType.ALL_F32,
    gguf.GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
    gguf.GGMLQuantizationType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}
TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(
    model: PreTrainedModel,
    tokenizer_folder: Path,
    layers: Collection[int],
    unit: Unit,
    name: str,
    quantisation: GgufQuantisation | None,
    folder: Path,
) -> int:
    """Write `model.gguf` into `folder`, read it again, and return its bytes.

    Norms stay in float32. With Q8_0, rows whose length is not a multiple of 32 stay in float32,
    too.

    Args:
        model: the unpruned model.
        tokenizer_folder: holds tokenizer.json.
        layers: the attention layers, or the blocks, that go.
        unit: attention or block.
        name: the name of the model in the file.
        quantisation: the number format of the matrices; None for that of the model.
        folder: receives the file.

    Raises:
        UnsupportedModel: llama.cpp cannot express this model without these layers.
        MissingExtra: as `quantise_by_llama_cpp`.
        ExportError: the file has other weights than the model.
    """
    check_gguf(model, layers, unit)
    absent = frozenset(layers) if unit == "attention" else frozenset[int]()
    if unit == "block":
        model = model_with_fewer_blocks(model, layers)
    config = model.config
    matrix_format = (
        gguf.GGMLQuantizationType.Q8_0
        if quantisation is GgufQuantisation.q8_0
        else FORMATS[model.dtype]
    )
    writer = gguf.GGUFWriter(folder / GGUF_FILE, "deci" if absent else "llama")
    _add_configuration(writer, config, absent, name)
    writer.add_file_type(FILE_TYPES[matrix_format])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, tokenizer_folder, config)
    tensors = dict(_tensors(model, absent))
    for tensor_name, values in tensors.items():
        form = _format(values, matrix_format)
        writer.add_tensor(tensor_name, quantize(values, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _check_tensors(folder / GGUF_FILE, tensors, matrix_format)
    if quantisation is GgufQuantisation.q4_k_m:
        quantise_by_llama_cpp(folder / GGUF_FILE)
    return (folder / GGUF_FILE).stat().st_size


def check_gguf(model: PreTrainedModel, layers: Collection[int], unit: Unit) -> None:
    """Refuse a model or level that llama.cpp cannot express, with the reason.

    Raises:
        UnsupportedModel: as `write_gguf`.
    """
    config = model.config
    if unit not in ("attention", "block"):
        raise UnsupportedModel(
            f"--kind gguf: llama.cpp has no graph for a model without {unit} layers (a block "
            "without MLP loses its attention, too); take --kind portable and llama.cpp's converter"
        )
    problems = {
        f"its type is {config.model_type}": config.model_type not in ("llama", "mistral"),
        "its attention slides": getattr(config, "sliding_window", None) is not None,
        "it has biases": any(name.endswith(".bias") for name in model.state_dict()),
        f"its activation is {config.hidden_act}": config.hidden_act != "silu",
        f"its rotary positions are {config.rope_parameters['rope_type']}": (
            config.rope_parameters["rope_type"] not in ("default", "linear", "llama3")
        ),
    }
    if found := [problem for problem, is_there in problems.items() if is_there]:
        raise UnsupportedModel(
            "--kind gguf: llama.cpp runs blocks without attention in its graph deci only, which is "
            f"a plain Llama. But of this model, {', '.join(found)}; take --kind portable and "
            "llama.cpp's converter"
        )
    if unit == "attention" and 0 in layers:
        raise UnsupportedModel(
            "--kind gguf: llama.cpp reads the size of a head from block 0, which needs its "
            "attention for that; take another level or strategy, or --kind portable and then "
            "llama.cpp's converter"
        )


def _add_configuration(
    writer: gguf.GGUFWriter, config: Any, absent: Collection[int], name: str
) -> None:
    blocks, rope = range(config.num_hidden_layers), config.rope_parameters
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    writer.add_name(name)
    writer.add_block_count(len(blocks))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if absent:
        writer.add_head_count([0 if block in absent else heads for block in blocks])
        writer.add_head_count_kv([0 if block in absent else groups for block in blocks])
        writer.add_feed_forward_length([config.intermediate_size for _ in blocks])
    else:
        writer.add_head_count(heads)
        writer.add_head_count_kv(groups)
        writer.add_feed_forward_length(config.intermediate_size)


def _tensors(
    model: PreTrainedModel, absent: Collection[int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The weights under their names in GGUF, without those of absent attention."""
    config = model.config
    for name, weight in model.state_dict().items():
        values = weight.detach().float().cpu()
        if name in OUTER_TENSORS:
            if name != "lm_head.weight" or not config.tie_word_embeddings:
                yield OUTER_TENSORS[name], values.numpy()
            continue
        _, _, number, rest = name.split(".", 3)
        own = rest.removesuffix(".weight")
        if int(number) in absent and own.startswith(("self_attn", "input_layernorm")):
            continue
        if own == "self_attn.q_proj":
            values = _interleaved(values, config.num_attention_heads)
        elif own == "self_attn.k_proj":
            values = _interleaved(values, config.num_key_value_heads)
        yield f"blk.{number}.{TENSORS[own]}.weight", values.numpy()
    if config.rope_parameters["rope_type"] == "llama3":
        # llama.cpp divides the plain frequencies by these factors.
        rotary = model.get_decoder().rotary_emb
        plain = config.rope_parameters["rope_theta"] ** -(
            torch.arange(len(rotary.inv_freq), dtype=torch.float64) / len(rotary.inv_freq)
        )
        yield "rope_freqs.weight", (plain / rotary.inv_freq.double().cpu()).float().numpy()


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """The rows of each head in llama.cpp's order: it rotates neighbours, transformers halves."""
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _format(
    values: NDArray[np.float32], matrix_format: gguf.GGMLQuantizationType
) -> gguf.GGMLQuantizationType:
    is_quantised = matrix_format is gguf.GGMLQuantizationType.Q8_0
    if values.ndim == 1 or (is_quantised and values.shape[-1] % QUANTISED_ROW):
        return gguf.GGMLQuantizationType.F32
    return matrix_format


def _check_tensors(
    file: Path,
    expected: dict[str, NDArray[np.float32]],
    matrix_format: gguf.GGMLQuantizationType,
) -> None:
    """Check that the file has these tensors; Q8_0 rounds to half of a row's largest 127th."""
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    if stored.keys() != expected.keys():
        different = sorted(stored.keys() ^ expected.keys())
        raise ExportError(f"{file.name}: other tensors than the model, first {different[0]}")
    for name, values in expected.items():
        found = dequantize(stored[name].data, stored[name].tensor_type).reshape(values.shape)
        is_quantised = _format(values, matrix_format) is gguf.GGMLQuantizationType.Q8_0
        tolerance = float(np.abs(values).max()) / 127 if is_quantised else 0.0
        if not np.abs(found - values).max() <= tolerance:
            raise ExportError(f"{file.name}: tensor {name} has other values than the model")
