"""Models that cannot be used are refused in one line, before weights are hashed or loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import ModelError
from prunelake.models.levels import check_levels
from prunelake.models.loading import load_model
from prunelake.models.remote_code import transformers_knows
from prunelake.models.sources import resolve_model

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


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    change_config(folder, intermediate_size=40)
    with pytest.raises(ModelError, match=r"\(their shapes are not those of config.json\); fetch"):
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


def test_the_types_are_those_of_transformers() -> None:
    from transformers import CONFIG_MAPPING

    assert [name for name in CONFIG_MAPPING if not transformers_knows(name)] == []
    assert not transformers_knows("abacus")
    assert not transformers_knows(None)
