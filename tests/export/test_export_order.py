"""The removal order of an export: from the lake, or computed as a sweep computes it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prunelake.models.loading import load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import Rows, Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.plan import plan_sweep
from tests.support.export_command import ORDER, add_run, export, logits
from tests.support.models.tiny_models import LAYER_COUNT
from tests.support.models.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("in_a_new_folder")


@pytest.mark.parametrize("kind", ["portable", "compact"])
def test_the_order_of_the_lake_is_exported(
    kind: str, revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(revision)
    assert export(monkeypatch, "tiny", "--level", "2", "--kind", kind, "--out", "out") == 0
    out, err = capsys.readouterr()
    assert "without attention layers 0, 3" in out
    assert f"Removal order: run {run_id} of the lake." in out
    assert not err
    whole = load_model(resolve_model("tiny", Path("cache"))).model
    with removed(whole, ORDER[:2]):
        expected = logits(whole)
    again: Any
    if kind == "portable":
        again = AutoModelForCausalLM.from_pretrained("out")
    else:
        again = load_model(resolve_model("out", Path("cache"))).model
    assert torch.equal(logits(again), expected)
    tokenizer = load_model(resolve_model("out", Path("cache"))).tokenizer
    assert tokenizer.encode("Is it yes?") == tiny_tokenizer().encode("Is it yes?")
    assert {p.name for p in Path().iterdir()} == {"lake", "out", "tiny"}
    assert Path("out").stat().st_mode == Path("tiny").stat().st_mode
    assert len({path.stat().st_mode for path in Path("out").iterdir()}) == 1
    assert str(Path.cwd()) not in Path("out/config.json").read_text()


def test_a_level_that_no_run_has_is_exported_with_a_warning(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    assert export(monkeypatch, "tiny", "--level", str(LAYER_COUNT), "--out", "out") == 0
    warning = "Nothing was measured at level 5: the lake's runs have the levels 0, 1, 2."
    assert capsys.readouterr().err == f"warning: {warning}\n"
    assert warning in Path("out/README.md").read_text()
    assert "| demo |" not in Path("out/README.md").read_text()


@pytest.mark.parametrize("strategy", ["cosine", "random:3", "iterative", "last"])
def test_without_a_run_the_order_of_a_sweep_is_computed(
    strategy: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run("another")  # a run of another revision does not count
    name, _, seed = strategy.partition(":")
    parsed = Strategy.model_validate({"name": name, "seed": seed or 0})
    spec = SweepSpec(model="tiny", task="everyday_knowledge", rows=Rows(first=1), strategy=parsed)
    plan = plan_sweep(spec, Settings())
    assert plan.source.revision == revision
    order = removal_order(
        load_model(plan.source).model, parsed, plan.calibration_windows, depth=3
    ).layers
    arguments = ("tiny", "--level", "3", "--strategy", strategy, "--out", "out")
    assert export(monkeypatch, *arguments) == 0
    out, err = capsys.readouterr()
    assert f"has no run of this model by {strategy}: computing its order" in out
    assert f"attention layers {', '.join(map(str, sorted(order[:3])))} (" in out
    assert err.startswith("warning: Nothing was measured: the lake has no run")
    card = Path("out/README.md").read_text()
    text = "bundled" if name in ("cosine", "iterative") else "none"
    assert f"computed for this export (calibration text: {text})" in card


@pytest.mark.parametrize("strategy", ["divergence", "balanced"])
def test_an_order_searched_on_examples_needs_a_run(
    strategy: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(revision)
    arguments = ("tiny", "--level", "2", "--strategy", strategy, "--out", "out")
    assert export(monkeypatch, *arguments) == 1
    assert "searches its order on examples of a task: run a sweep first" in capsys.readouterr().err
    assert not Path("out").exists()
    add_run(revision, "searched", strategy=strategy)
    assert export(monkeypatch, *arguments) == 0


def test_one_of_several_differing_runs_has_to_be_chosen(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = add_run(revision), add_run(revision, "b", removal_order=[3, 1, 0, 2, 4])
    arguments = ("tiny", "--level", "2", "--out", "out")
    assert export(monkeypatch, *arguments) == 1
    err = capsys.readouterr().err
    assert "choose one with --run" in err
    assert f"run {first} (demo, float32) [0, 3]" in err
    assert f"run {second} (demo, float32) [1, 3]" in err
    assert export(monkeypatch, *arguments, "--run", "nonsense") == 1
    assert first in capsys.readouterr().err
    assert not Path("out").exists()
    assert export(monkeypatch, *arguments, "--run", second) == 0
    card = Path("out/README.md").read_text()
    assert f"`{second}`" in card
    assert first not in card
    # They agree at level 1, and at level 3, which they reach in another order.
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "one") == 0
    card = Path("one/README.md").read_text()
    assert {f"`{first}` (float32)", f"`{second}` (float32)"} == set(
        re.findall(r"`\w+` \(.*?\)", card)
    )
    assert export(monkeypatch, "tiny", "--level", "3", "--out", "three") == 0


def test_the_default_number_format_matches_the_runs(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision, dtype="bfloat16")

    def stored(folder: str) -> set[torch.dtype]:
        return {tensor.dtype for tensor in load_file(f"{folder}/model.safetensors").values()}

    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out") == 0
    assert stored("out") == {torch.bfloat16}
    assert "- the effect of computing in" not in Path("out/README.md").read_text()
    arguments = ("tiny", "--level", "1", "--dtype", "float16", "--out", "half")
    assert export(monkeypatch, *arguments) == 0
    assert stored("half") == {torch.float16}
    assert (
        "- the effect of computing in float16: the runs computed in bfloat16"
        in Path("half/README.md").read_text()
    )
    add_run(revision, "b", dtype="float32_bf16")
    capsys.readouterr()
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "either") == 1
    assert (
        "runs in bfloat16 and in float32_bf16: choose one with --dtype" in capsys.readouterr().err
    )
    arguments = ("tiny", "--level", "1", "--dtype", "float32_bf16", "--out", "either")
    assert export(monkeypatch, *arguments) == 0
    assert stored("either") == {torch.float32}


def test_an_order_of_mlps_is_computed_without_a_run(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    arguments = ("tiny", "--level", "1", "--strategy", "mlp:last", "--out", "out")
    assert export(monkeypatch, *arguments) == 0
    assert "tiny without MLPs 4 (portable" in capsys.readouterr().out
