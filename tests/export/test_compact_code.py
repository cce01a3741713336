"""A compact checkpoint with code: transformers alone loads it, and so does PruneLake."""

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from prunelake.export.compact_code import CODE_FILE, add_code
from prunelake.models.removal import removed
from prunelake.spec import Unit
from tests.support.export_command import add_run, export, logits
from tests.support.models.saved_models import generated, logits_of, prompts, read, save
from tests.support.models.tiny_models import family_cases, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(autouse=True)
def _copy_code_to_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers copy trusted code to the folder of the test, and import it there."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "m"))
    monkeypatch.setattr(sys, "path", [*sys.path])


def saved(model: PreTrainedModel, layers: tuple[int, ...], folder: Path, unit: Unit) -> Path:
    save(model, layers, "compact", folder, unit)
    add_code(folder, model, tiny_tokenizer())
    return folder


def trusted(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    model.eval()
    return model


@pytest.mark.parametrize(
    ("family", "unit", "layers", "is_tied"),
    family_cases(
        ("attention", (0, 3), False),
        ("block", (1, 2), True),
        ("mlp", (0, 4), True),
        ("attention", tuple(range(5)), True),
    ),
)
def test_transformers_loads_a_compact_checkpoint_by_its_code(
    family: str, unit: Unit, layers: tuple[int, ...], is_tied: bool, tmp_path: Path
) -> None:
    model = tiny_model(family, tie_word_embeddings=is_tied)
    folder = saved(model, layers, tmp_path / "saved", unit)
    again, rows = trusted(folder), prompts(9, 4)
    ids = rows[0][None]
    with removed(model, layers, unit):
        assert torch.equal(logits_of(again, ids), logits_of(model, ids))
        expected = generated(model, rows, use_cache=False)
    for options in ({}, {"cache_implementation": "static"}, {"use_cache": False}):
        assert torch.equal(generated(again, rows, **options), expected)
    assert again.num_parameters() < model.num_parameters()
    # PruneLake needs no trust, and runs none of the code.
    (folder / CODE_FILE).write_text("raise AssertionError")
    assert torch.equal(logits_of(read(folder, "compact"), ids), logits_of(again, ids))


def test_the_code_needs_transformers_only(tmp_path: Path) -> None:
    code = (saved(tiny_model("gemma3"), (0,), tmp_path / "saved", "mlp") / CODE_FILE).read_text()
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert packages == {"packaging", "torch", "transformers"}
    assert "import Gemma3TextConfig as BaseConfig" in code
    assert "import Gemma3ForCausalLM as BaseModel" in code


def test_a_trained_model_is_saved_in_the_same_form(tmp_path: Path) -> None:
    folder = saved(tiny_model("llama"), (0, 3), tmp_path / "saved", "block")
    model, ids = trusted(folder), prompts(7)[0][None]
    with torch.no_grad():
        next(model.get_input_embeddings().parameters()).mul_(2)
    model.save_pretrained(tmp_path / "trained", max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path / "trained")
    files = (tmp_path / "trained").glob("*.safetensors*")
    assert {file.name[:8] for file in files} == {"compact-", "compact."}
    for again in (trusted(tmp_path / "trained"), read(tmp_path / "trained", "compact")):
        assert torch.equal(logits_of(again, ids), logits_of(model, ids))
    with pytest.raises(ValueError, match="upload this folder"):
        model.save_pretrained(tmp_path / "pushed", push_to_hub=True)


def test_nothing_is_filled_with_random_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tiny_model("llama"), (0, 3), tmp_path / "saved", "attention")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        LlamaForCausalLM.from_pretrained(folder)
    weights = load_file(folder / "compact.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "compact.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, first model\.layers\.1\.self_attn"):
        trusted(folder)
    other = saved(tiny_model("gpt_neox"), (0,), tmp_path / "other", "attention")
    monkeypatch.setattr(transformers, "__version__", "4.57.3")
    with pytest.raises(ImportError, match=r"needs transformers 5 or newer, and this is 4\.57\.3"):
        trusted(other)


@pytest.mark.usefixtures("in_a_new_folder")
def test_the_command_writes_the_code(revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(revision)
    arguments = ("tiny", "--level", "2", "--kind", "compact", "--with-code", "--out", "out")
    assert export(monkeypatch, *arguments, "--max-shard-size", "40KB") == 0
    assert torch.equal(logits(trusted(Path("out"))), logits(read(Path("out"), "compact")))
    tokenizer = AutoTokenizer.from_pretrained("out", trust_remote_code=True)
    assert tokenizer.encode("Is it yes?") == tiny_tokenizer().encode("Is it yes?")
    card = Path("out/README.md").read_text()
    assert 'from_pretrained("FOLDER", trust_remote_code=True)' in card
    assert "Needs transformers 4.57.3 or newer, and refuses an older one." in card
    assert json.loads(Path("out/config.json").read_text())["needs_transformers"] == "4.57.3"
