"""Models that cannot be used are refused in one line, before weights are hashed or loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import ModelError
from prunelake.models.files.gguf_header import check_gguf_file
from prunelake.models.files.remote_code import transformers_knows
from prunelake.models.levels import check_levels
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps.plan import plan_sweep

HEADER = b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'
CUT_OFF = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a tiny model, which a test may damage."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_folder, copy)
    return copy


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def refusal(reference: str | Path, cache: Path) -> str:
    """The message with which a model is refused before its files are hashed."""
    with pytest.raises(ModelError) as caught:
        resolve_model(str(reference), cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "org/name/x", "../x", "org/", "-x/y"])
def test_a_name_that_the_hub_cannot_have_is_refused_without_asking_it(name: str) -> None:
    with pytest.raises(ModelError, match=r"the hub has no such name; write hub:org/name"):
        check_levels(f"hub:{name}", None, "attention")


@pytest.mark.parametrize("name", ["gpt2", "org/name", "org/name@main", "org/name@refs/pr/1"])
def test_other_names_may_be_on_the_hub(name: str) -> None:
    check_levels(f"hub:{name}", None, "attention")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "abacus"}, "has the type 'abacus', which transformers "),
        ({"model_type": "t5", "is_encoder_decoder": True}, "is an encoder-decoder"),
    ],
)
def test_a_type_of_model_is_refused_from_its_config_alone(
    fields: dict[str, Any], message: str, folder: Path
) -> None:
    change_config(folder, **fields)
    with pytest.raises(ModelError) as caught:
        check_levels(str(folder), None, "attention")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "abacus"}, "cannot build a model from its config.json (KeyError: 'aba"),
        ({"num_attention_heads": 0}, "config.json cannot be read (ZeroDivisionError"),
        ({"num_hidden_layers": "five"}, "config.json cannot be read (StrictDataclass"),
        ({"num_hidden_layers": 500}, "and the *.safetensors files in "),
        ({"model_type": "vit"}, "transformers has no causal language model for it"),
    ],
)
def test_a_strange_config_is_refused_before_weights_are_hashed(
    fields: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_config(folder, **fields)
    monkeypatch.setattr("prunelake.models.sources.hash_files", None)
    assert message in refusal(folder, folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no header of the format"),
        (b"x" * 100, "has no header of the format"),
        ((2).to_bytes(8, "little") + b"[]", "has no header of the format"),
        ((2**62).to_bytes(8, "little") + b"{}", "has no header of the format"),
        (CUT_OFF, "has 65 bytes, and its header describes 69"),
    ],
)
def test_damaged_weights_are_refused_before_they_are_hashed(
    content: bytes, problem: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    monkeypatch.setattr("prunelake.models.sources.hash_files", None)
    assert f"its weights cannot be read (model.safetensors {problem}" in refusal(folder, folder)


@pytest.mark.parametrize("content", [b"", b"{", b'{"model": 1}', None])
def test_a_broken_tokenizer_is_refused_before_weights_are_hashed(
    content: bytes | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "tokenizer.json"
    file.unlink() if content is None else file.write_bytes(content)
    monkeypatch.setattr("prunelake.models.sources.hash_files", None)
    spec = SweepSpec(model=str(folder), task="everyday_knowledge")
    with pytest.raises(ModelError, match="has no tokenizer that works"):
        plan_sweep(spec, Settings(cache=folder.parent))


def _gguf(tensor_bytes: int, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    """A file with a text, an array of texts, an alignment, and a tensor of 8 float32 numbers."""

    def number(value: int, size: int = 8) -> bytes:
        return value.to_bytes(size, "little")

    def text(value: bytes) -> bytes:
        return number(len(value)) + value

    entries = [
        text(b"general.name") + number(8, 4) + text(b"tiny"),
        text(b"tokens") + number(9, 4) + number(8, 4) + number(2) + text(b"a") + text(b"b"),
        text(b"general.alignment") + number(4, 4) + number(64, 4),
    ]
    tensor = text(b"w") + number(1, 4) + number(8) + number(0, 4) + number(0)
    header = magic + number(version, 4) + number(1) + number(len(entries))
    header += b"".join(entries) + tensor
    return header + bytes(-len(header) % 64 + tensor_bytes)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"weights", "it does not begin with GGUF"),
        (_gguf(32, version=1), "its version is 1"),
        (_gguf(32)[:100], "it ends within its header"),
        (_gguf(32)[:90] + b"\xff" * 16, "it ends within its header"),
        (_gguf(31), "it has 223 bytes, and its header describes 224"),
    ],
)
def test_a_damaged_gguf_file_is_refused_before_it_is_hashed(
    content: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(content)
    monkeypatch.setattr("prunelake.models.sources.hash_files", None)
    assert f"tiny.gguf: cannot be read as GGUF ({problem}" in refusal(file, tmp_path)
    file.write_bytes(_gguf(32))
    check_gguf_file(file)


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    change_config(folder, intermediate_size=40)
    with pytest.raises(ModelError, match=r"\(their shapes differ from config.json\); fetch"):
        load_model(resolve_model(str(folder), tmp_path))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("adapter_config.json", "is an adapter; merge it into its model"),
        ("pytorch_model.bin", "has no *.safetensors, and pickled weights (*.bin) are not read"),
        ("model_index.json", "no folder with config.json and *.safetensors there"),
    ],
)
def test_a_folder_of_another_kind_is_named(file: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    assert message in refusal(tmp_path, tmp_path)


def test_the_types_match_transformers() -> None:
    from transformers import CONFIG_MAPPING

    assert [name for name in CONFIG_MAPPING if not transformers_knows(name)] == []
    assert not transformers_knows("abacus")
    assert not transformers_knows(None)
