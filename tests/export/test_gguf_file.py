"""GGUF files of pruned Llamas. transformers reads plain ones; llama.cpp, if installed, all."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedModel

from prunelake.errors import MissingExtra, UnsupportedModel
from prunelake.export.gguf.gguf_file import write_gguf
from prunelake.export.gguf.llama_cpp import tensor_formats
from prunelake.models.removal import removed
from prunelake.spec import GgufQuantisation, Unit
from tests.support.models.byte_tokenizer import SIZE, byte_tokenizer
from tests.support.models.tiny_models import LAYER_COUNT, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

IDS = torch.arange(3, 40)[None]
ROPE = {"rope_type": "default", "rope_theta": 777.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 777.0,
}


def llama(**changes: Any) -> PreTrainedModel:
    return tiny_model("llama", **{"vocab_size": SIZE, "rope_parameters": ROPE} | changes)


def written(
    model: PreTrainedModel,
    layers: list[int],
    folder: Path,
    unit: Unit = "attention",
    quantisation: GgufQuantisation | None = None,
) -> gguf.GGUFReader:
    byte_tokenizer().save_pretrained(folder)
    size = write_gguf(model, folder, layers, unit, "tiny", quantisation, folder)
    assert (folder / "model.gguf").stat().st_size == size
    return gguf.GGUFReader(folder / "model.gguf")


def values_of(reader: gguf.GGUFReader) -> dict[str, NDArray[np.float32]]:
    return {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}


@torch.inference_mode()
def logits_of(model: PreTrainedModel) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def test_transformers_reads_a_file_without_blocks(tmp_path: Path) -> None:
    model = llama()
    written(model, [0, 3], tmp_path, "block")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert again.config.num_hidden_layers == LAYER_COUNT - 2
    with removed(model, [0, 3], "block"):
        torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=0)


def test_blocks_without_attention_have_no_heads(tmp_path: Path) -> None:
    model = llama()
    (tmp_path / "whole").mkdir()
    whole = values_of(written(model, [], tmp_path / "whole"))
    reader = written(model, [1, 3], tmp_path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "deci"
    assert fields["deci.attention.head_count"] == [4, 0, 4, 0, 4]
    assert fields["deci.attention.head_count_kv"] == [2, 0, 2, 0, 2]
    assert fields["deci.feed_forward_length"] == [48] * LAYER_COUNT
    assert fields["deci.rope.freq_base"] == 777.0
    pruned = values_of(reader)
    gone = whole.keys() - pruned.keys()
    assert gone == {
        f"blk.{block}.{name}.weight"
        for block in (1, 3)
        for name in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output")
    }
    for name, values in pruned.items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize("layers", [[], [1, 3]])
def test_the_matrices_may_be_quantised(layers: list[int], tmp_path: Path) -> None:
    model = llama()
    reader = written(model, layers, tmp_path, quantisation=GgufQuantisation.q8_0)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.ffn_down.weight"] == "F32"  # its rows of 48 values are no multiple of 32
    assert types["blk.0.ffn_norm.weight"] == "F32"
    expected = model.state_dict()["model.embed_tokens.weight"].numpy()
    difference = np.abs(values_of(reader)["token_embd.weight"] - expected)
    assert 0 < difference.max() <= np.abs(expected).max() / 127 / 2 * 1.01


def test_llama_cpp_quantises_rows_of_256(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp_py_sync")
    model = llama(hidden_size=256, intermediate_size=96)
    reader = written(model, [1, 3], tmp_path, quantisation=GgufQuantisation.q4_k_m)
    values, types = values_of(reader), {t.name: t.tensor_type.name for t in reader.tensors}
    assert types["blk.2.attn_q.weight"] == types["blk.2.ffn_gate.weight"] == "Q4_K"
    assert "blk.1.attn_q.weight" not in types
    # Rows of 32 and 96 numbers fall back to formats with blocks of 32.
    assert tensor_formats(tmp_path / "model.gguf")["Q5_0"] == ["attn_output", "ffn_down"]
    for name, own in (("attn_v", "self_attn.v_proj"), ("ffn_down", "mlp.down_proj")):
        expected = model.state_dict()[f"model.layers.2.{own}.weight"].numpy()
        error = np.linalg.norm(values[f"blk.2.{name}.weight"] - expected)
        assert 0 < error / np.linalg.norm(expected) < 0.15
    assert {file.suffix for file in tmp_path.glob("model*")} == {".gguf"}


def test_quantisation_by_llama_cpp_names_the_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelake.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"needs llama_cpp_py_sync.*prunelake\[llama-cpp\]"):
        written(llama(), [1], tmp_path, quantisation=GgufQuantisation.q4_k_m)


def test_the_tokenizer_is_written(tmp_path: Path) -> None:
    reader = written(llama(), [1], tmp_path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tokens = fields["tokenizer.ggml.tokens"]
    assert [tokens[number] for number in byte_tokenizer().encode(" yes")] == ["Ġye", "s"]
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.merges"] == ["Ġ y", "Ġy e", "i s"]
    assert fields["tokenizer.ggml.token_type"][-2:] == [gguf.TokenType.CONTROL] * 2
    assert fields["tokenizer.ggml.bos_token_id"] == SIZE - 2
    assert fields["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize(
    ("model", "layers", "unit", "reason"),
    [
        (llama, [0, 2], "attention", "reads the size of a head from block 0"),
        (llama, [1], "mlp", "a block without MLP loses its attention"),
        (lambda: tiny_model("qwen2"), [1], "attention", "its type is qwen2"),
        (lambda: tiny_model("mistral"), [1], "attention", "its attention slides"),
        (lambda: llama(hidden_act="gelu"), [1], "attention", "its activation is gelu"),
    ],
)
def test_a_level_that_llama_cpp_cannot_express_is_refused(
    model: Any, layers: list[int], unit: Unit, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        written(model(), layers, tmp_path, unit)
    assert not (tmp_path / "model.gguf").exists()


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="no byte-level BPE"):
        write_gguf(tiny_model("llama"), tmp_path, [1], "attention", "tiny", None, tmp_path)


@pytest.mark.parametrize("rope", [ROPE, LLAMA3])
def test_llama_cpp_computes_the_same(rope: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp_py_sync")  # a package with llama.cpp, 5 MB
    from benchmarks.models.llama_cpp import llama_cpp_logits, open_gguf

    model = llama(rope_parameters=rope)
    written(model, [1, 3], tmp_path)
    with removed(model, [1, 3]):
        expected = logits_of(model)[0].numpy()
    engine = open_gguf(tmp_path / "model.gguf")
    np.testing.assert_allclose(llama_cpp_logits(engine, IDS[0].tolist()), expected, atol=1e-3)
    assert engine.tokenize("Is it yes?") == byte_tokenizer().encode("Is it yes?")
