"""The folder of an export: complete and correct, or absent."""

import resource
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Cache, DynamicLayer

from prunelake.export import checkpoint
from prunelake.models.loading import load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.spec import UNIT_NAMES, CheckpointKind, Dtype, Unit
from tests.support.endurance import repeats
from tests.support.export_command import add_run, export, file_contents, logits
from tests.support.models.tiny_models import LAYER_COUNT, family_cases, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("in_a_new_folder")


def test_existing_files_stay(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    Path("link").symlink_to("nowhere")
    Path("empty").mkdir()
    before = file_contents(Path())
    for taken in ("full", "file", "link", "tiny"):
        assert export(monkeypatch, "tiny", "--level", "1", "--out", taken) == 1
        assert f"error: {taken} exists already" in capsys.readouterr().err
    assert file_contents(Path()) == before
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "empty") == 0
    assert Path("empty/model.safetensors").is_file()
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "new/folder") == 0


def test_a_folder_that_was_filled_during_the_export_stays(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    compare = checkpoint._check_logits

    def another(*arguments: Any) -> None:
        Path("out").mkdir(exist_ok=True)
        Path("out/notes.txt").write_text("mine")
        compare(*arguments)

    monkeypatch.setattr(checkpoint, "_check_logits", another)
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out") == 1
    assert "out exists already" in capsys.readouterr().err
    assert {p.name for p in Path().iterdir()} == {"lake", "tiny", "out"}
    assert file_contents(Path("out")) == {"out/notes.txt": b"mine"}


@pytest.mark.parametrize("kind", ["portable", "compact"])
def test_a_full_disk_leaves_no_folder(
    kind: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(revision)
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))  # less than the weights
    try:
        code = export(monkeypatch, "tiny", "--level", "1", "--kind", kind, "--out", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert code == 1
    err = capsys.readouterr().err
    assert "error: out cannot be written" in err
    assert "File too large" in err
    assert len(err.splitlines()) == 1
    assert {p.name for p in Path().iterdir()} == {"lake", "tiny"}


@pytest.mark.parametrize("kind", ["portable", "compact"])
def test_a_checkpoint_with_other_logits_is_not_kept(
    kind: str, revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    if kind == "portable":  # the projections keep their weights
        monkeypatch.setattr(checkpoint, "zero_out", lambda *_: None)
        comparison = "without a cache"
    else:  # the placeholder spoils what the cache holds

        def spoil(cache: Cache, *_: object) -> None:
            for layer in cache.layers:
                if isinstance(layer, DynamicLayer) and layer.values is not None:
                    layer.values.zero_()

        monkeypatch.setattr("prunelake.models.decoder.modeling_prunelake.extend_cache", spoil)
        comparison = "with a cache"
    assert export(monkeypatch, "tiny", "--level", "2", "--kind", kind, "--out", "out") == 1
    assert f"error: LlamaForCausalLM {comparison}: a logit" in capsys.readouterr().err
    assert {p.name for p in Path().iterdir()} == {"lake", "tiny"}


# The short form has each kind and each unit once.
@pytest.mark.parametrize(
    ("kind", "unit"), [*product(("portable", "compact"), ("mlp", "block"))][:: repeats(3, 1)]
)
def test_mlps_and_blocks_are_exported(
    kind: str,
    unit: Unit,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(revision)  # a run of another unit does not count
    run_id = add_run(revision, unit, strategy=f"{unit}:cosine", removal_order=[1, 4, 0, 2, 3])
    arguments = ("tiny", "--level", "2", "--strategy", f"{unit}:cosine", "--kind", kind)
    assert export(monkeypatch, *arguments, "--out", "out") == 0
    assert f"tiny without {UNIT_NAMES[unit]} 1, 4 ({kind}" in capsys.readouterr().out
    whole = load_model(resolve_model("tiny", Path("cache"))).model
    with removed(whole, [1, 4], unit):
        expected = logits(whole)
    again = load_model(resolve_model("out", Path("cache"))).model
    assert torch.equal(logits(again), expected)
    card = Path("out/README.md").read_text()
    assert f"# tiny without 2 of its 5 {UNIT_NAMES[unit]}\n" in card
    assert f"| removed {UNIT_NAMES[unit]} (the first is 0) | 1, 4 |" in card
    assert f"| chosen by | {unit}:cosine, level 2 |" in card
    assert f"`{run_id}`" in card
    assert ("KV cache" in card) is (unit == "block")


@pytest.mark.parametrize(
    ("family", "kind", "dtype", "unit"),
    family_cases(
        *(
            (kind, *case)
            for kind in (CheckpointKind.portable, CheckpointKind.compact)
            for case in (
                ("float32", "attention"),
                ("bfloat16", "attention"),
                ("float16", "attention"),
                ("float32", "mlp"),
                ("bfloat16", "block"),
            )
        )
    ),
)
def test_checkpoints_of_every_family_pass_the_comparison(
    family: str, kind: CheckpointKind, dtype: Dtype, unit: Unit
) -> None:
    tiny_model(family).save_pretrained(family)
    tiny_tokenizer().save_pretrained(family)
    source = resolve_model(family, Path("cache"))
    for number, layers in enumerate(([0, 3], range(LAYER_COUNT))):
        assert (
            checkpoint.write_checkpoint(
                source, layers, kind, Path(f"out{number}"), "", dtype, unit=unit
            )
            > 0
        )
