"""The files of a compact checkpoint: the programs that read or refuse them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)

from prunelake.errors import ModelError, ModelNotFound, UnsupportedModel
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.spec import Unit
from tests.support.models.saved_models import (
    logits_of,
    placeholder_layers,
    prompts,
    read,
    round_trip,
    save,
)
from tests.support.models.tiny_models import FAMILIES, SHORT_FAMILIES, family_cases, tiny_model


@pytest.mark.parametrize(("family", "unit"), family_cases(("attention",), ("mlp",), ("block",)))
def test_transformers_refuses_a_compact_checkpoint(family: str, unit: Unit, tmp_path: Path) -> None:
    model = tiny_model(family)
    save(model, (0, 3), "compact", tmp_path / "saved", unit)
    for plain in (AutoConfig, AutoModelForCausalLM, type(model), AutoTokenizer):
        with pytest.raises(ValueError, match="this is a compact checkpoint of PruneLake") as error:
            plain.from_pretrained(tmp_path / "saved")
        assert "load it with prunelake.models.loading.load_model, or export" in str(error.value)
        assert "upgrade" not in str(error.value)
    # Without this entry, its own class would only warn of the model type, and find no weights.
    file = tmp_path / "saved" / "config.json"
    marker = json.loads(file.read_text())
    del marker["configuration_files"]
    file.write_text(json.dumps(marker))
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        type(model).from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_transformers_has_no_configuration_without_attention(family: str) -> None:
    # Once this fails, transformers may be able to load compact checkpoints of this family.
    config = FAMILIES[family]()
    config.per_layer_config = {0: {"skip": ["attention"]}}
    assert config.per_layer_config[0].skip == ["attention"]
    model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == tiny_model(family).num_parameters()


def test_a_compact_model_is_saved_by_save_compact_only(tmp_path: Path) -> None:
    again, _ = round_trip(tiny_model("llama"), (0, 3), "compact", tmp_path / "saved")
    with pytest.raises(UnsupportedModel, match=r"models\.compact\.save_compact"):
        again.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()
    save(again, (1,), "compact", tmp_path / "again")
    twice = read(tmp_path / "again", "compact")
    assert placeholder_layers(twice) == (0, 1, 3)
    with removed(again, [1]):
        wanted = logits_of(again, prompts(7)[0][None])
    assert torch.equal(logits_of(twice, prompts(7)[0][None]), wanted)


def test_a_missing_weight_of_a_compact_checkpoint_is_an_error(tmp_path: Path) -> None:
    save(tiny_model("llama"), (0,), "compact", tmp_path / "saved")
    file = tmp_path / "saved" / "compact.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, file)
    with pytest.raises(ModelNotFound, match=r"lacks 1 weights, first model\.layers\.1\.self_attn"):
        read(tmp_path / "saved", "compact")


def test_a_compact_checkpoint_may_consist_of_several_files(tmp_path: Path) -> None:
    again, _ = round_trip(tiny_model("llama"), (0,), "compact", tmp_path / "saved")
    file = tmp_path / "saved" / "compact.safetensors"
    weights = [*load_file(file).items()]
    file.unlink()
    for number, part in enumerate((weights[:9], weights[9:])):
        save_file(dict(part), file.with_name(f"compact-0000{number + 1}-of-00002.safetensors"))
    ids = prompts(7)[0][None]
    assert torch.equal(logits_of(read(file.parent, "compact"), ids), logits_of(again, ids))
    file.with_name("compact-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="lacks"):
        read(file.parent, "compact")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{}", r"config\.json cannot be read"),
        ('{"model_type": "abacus"}', "has the type 'abacus', which transformers .* does not know"),
    ],
)
def test_a_compact_checkpoint_of_an_unknown_model_is_refused(
    config: str, problem: str, tmp_path: Path
) -> None:
    save(tiny_model("llama"), (0,), "compact", tmp_path / "saved")
    marker = json.loads((tmp_path / "saved" / "config.json").read_text())
    marker["config"] = json.loads(config)
    (tmp_path / "saved" / "config.json").write_text(json.dumps(marker))
    with pytest.raises(ModelError, match=problem):
        resolve_model(str(tmp_path / "saved"), tmp_path)
