import re
import resource
import sys
from itertools import product
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, DynamicLayer

from prunelake.cli.app import main
from prunelake.export import checkpoint
from prunelake.export.model_card import ModelOrigin
from prunelake.export.origin import model_origin
from prunelake.lake.sql.views import query
from prunelake.models.loading import load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import UNIT_NAMES, CheckpointKind, Dtype, Rows, Strategy, SweepSpec, Unit
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.plan import plan_sweep
from tests.support.endurance import repeats
from tests.support.example_runs import explained_run
from tests.support.lake_rows import run_row, write_raw
from tests.support.profile_rows import profiled
from tests.support.tiny_models import LAYER_COUNT, family_cases, tiny_model
from tests.support.tiny_tokenizer import tiny_tokenizer

ORDER = [3, 0, 1, 4, 2]
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PRUNELAKE_LAKE", "PRUNELAKE_DTYPE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def revision(tmp_path: Path) -> str:
    """The revision of a model in the folder `tiny`; its context is long enough for calibration."""
    tiny_model("llama", max_position_embeddings=2048).save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return resolve_model("tiny", tmp_path).revision


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prunelake", "export", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def add_run(revision: str, name: str = "run", **columns: Any) -> str:
    """Write a run of the tiny model with levels 0 to 2 and explanations; return its id."""
    row: dict[str, Any] = {"revision": revision, "removal_order": ORDER, "task": "demo"}
    row |= {"layer_count": LAYER_COUNT}
    return explained_run(Path("lake"), name, **row | columns)


def file_contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(input_ids=IDS).logits
    return output


@pytest.mark.parametrize("kind", ["portable", "compact"])
def test_the_order_of_the_lake_is_exported(
    kind: str, revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(revision)
    assert export(monkeypatch, "tiny", "--level", "2", "--kind", kind, "--out", "out") == 0
    out, err = capsys.readouterr()
    assert "without attention layers 0, 3" in out
    assert f"The order comes from run {run_id} of the lake." in out
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
    tokenizer = AutoTokenizer.from_pretrained("out")
    assert tokenizer.encode("Is it yes?") == tiny_tokenizer().encode("Is it yes?")
    assert {p.name for p in Path().iterdir()} == {"lake", "out", "tiny"}
    assert Path("out").stat().st_mode == Path("tiny").stat().st_mode
    assert len({path.stat().st_mode for path in Path("out").iterdir()}) == 1
    assert str(Path.cwd()) not in Path("out/config.json").read_text()


def test_the_card_shows_the_metrics_of_the_lake(
    revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add_run(revision)
    add_run("another", "other revision")
    add_run(revision, "other strategy", strategy="random:0")
    bare = write_raw(
        Path("lake"), run_row("bare", revision=revision, removal_order=ORDER, task="sst2")
    )
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out") == 0
    text = Path("out/README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| demo")]
    expected_rows = query(
        Path("lake"),
        f"""
        select
            metrics.value, ci_low, ci_high, metrics.n, unpruned_value, deltas.delta, verdict
        from metrics
        join deltas using (run_id, level, metric)
        left join verdicts using (run_id, level, metric)
        where run_id = '{run_id}' and level = 1 and metric in ('accuracy', 'ece')
        order by metric
        """,
    ).to_dicts()
    for line, row in zip(rows[:2], expected_rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
        assert cells[2:5] == [f"{row['unpruned_value']:.3f}", f"{row['value']:.3f}", interval]
        assert cells[5] == f"{row['delta']:+.3f}"
        assert cells[7] == row["verdict"]
        assert cells[8:] == [str(row["n"]), f"`{run_id}` (float32)"]
    assert [line.split("|")[2].strip() for line in rows] == [
        "accuracy",
        "ECE",
        "comprehensiveness (kernel_shap delete_text eraser)",
    ]
    # 0.5 minus 0.125 for each level, over two explained examples: too few for intervals.
    assert "| 0.500 | 0.375 | none | -0.125 | none | inconclusive | 2 |" in rows[2]
    for missing in ("accuracy on sst2", "comprehensiveness on sst2", f"run {bare} has no analysis"):
        assert f"- {missing}" in text
    assert f"| revision | `{revision}` |" in text
    assert "| removed attention layers (the first is 0) | 3 |" in text
    assert "text that the model writes, its speed and its memory" in text
    assert "## Cost" not in text


@pytest.mark.parametrize(
    ("kind", "form"), [("compact", "in this checkpoint"), ("portable", "in a compact checkpoint")]
)
def test_the_card_shows_the_cost_of_a_profiled_level(
    kind: str, form: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(revision)
    add_run(revision, "another task", task="other")
    given: dict[str, Any] = {"revision": revision, "removal_order": ORDER}
    profiled(Path("lake"), "cpu", **given)
    profiled(Path("lake"), "gpu", {0: [2.0], 1: [1.0]}, device_name="a GPU", **given)
    profiled(Path("lake"), "other", {0: [2.0]}, device_name="not there", **given)
    arguments = ("tiny", "--level", "1", "--out", "out", "--kind", kind)
    assert export(monkeypatch, *arguments) == 0
    text = Path("out/README.md").read_text()
    _, _, costs = text.partition("## Cost\n")
    rows = [line for line in costs.splitlines() if line.startswith("| a ")]
    sizes = "| 0.0 MB (90.0 %) | 0.0 kB (75.0 %) | 0 MB (90.0 %) |"
    assert rows == [
        f"| a CPU, 1 thread | float32 {sizes} 200 tokens/s (2.00 x, 2.00 to 3.00) | "
        "10 tokens/s (2.00 x, 2.00 to 3.00) |",
        f"| a GPU | float32 {sizes} 400 tokens/s (2.00 x, 2.00 to 2.00) | "
        "20 tokens/s (2.00 x, 2.00 to 2.00) |",
    ]
    assert f"the removed modules really absent, as {form}, compared with level 0" in costs
    assert "its speed and its memory" not in text
    assert "not there" not in text


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
    assert f"an order computed here (calibration text: {text})" in card


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


def test_the_default_number_format_is_that_of_the_runs(
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


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["--level", "6"], "level 6: the model has 5 attention layers"),
        (["--level", "6", "--strategy", "block:last"], "level 6: the model has 5 blocks"),
        (["--level", "1", "--strategy", "ffn:last"], "--strategy ffn:last: Input should be"),
        (["--level", "0"], "go from 1 to 5"),
        (["--level", "1", "--strategy", "best"], "--strategy best: Input should be 'cosine'"),
        (["--level", "1", "--strategy", "random:x"], "--strategy random:x"),
        (["--level", "1", "--dtype", "int8"], "--dtype int8: choose float32"),
        (["--level", "1", "--calibration", "nothing.txt"], "nothing.txt"),
        (["--level", "1", "--run", "abc"], "the lake has: none"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(
    arguments: list[str],
    mentioned: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert revision
    assert export(monkeypatch, "tiny", *arguments, "--out", "out") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.splitlines()) == 1
    assert {p.name for p in Path().iterdir()} == {"tiny"}


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

        monkeypatch.setattr("prunelake.models.decoder.placeholders._extend_cache", spoil)
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


def test_an_order_of_mlps_is_computed_without_a_run(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision)
    arguments = ("tiny", "--level", "1", "--strategy", "mlp:last", "--out", "out")
    assert export(monkeypatch, *arguments) == 0
    assert "tiny without MLPs 4 (portable" in capsys.readouterr().out


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


@pytest.mark.parametrize("kind", ["portable", "compact", "nemotron-nas"])
def test_the_weights_are_split_and_the_card_states_its_origin(
    kind: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(revision, strategy="mlp:cosine", task="boolq")
    arguments = ("tiny", "--level", "1", "--strategy", "mlp:cosine", "--kind", kind)
    options = ("--max-shard-size", "40KB", "--license", "mit", "--base-model", "org/tiny")
    assert export(monkeypatch, *arguments, *options, "--out", "out") == 0
    assert len([*Path("out").glob("*-00001-of-*.safetensors")]) == 1
    assert all(file.stat().st_size < 50_000 for file in Path("out").glob("*.safetensors"))
    _, header, card = Path("out/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {
        "base_model": "org/tiny",
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prunelake", "pruning", "mlp-removal"],
    }
    assert "The licence of the unpruned model applies: mit." in card
    assert "```text\n{passage}\nQuestion: {question}?\nAnswer:\n```" in card


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--max-shard-size", "many"], "--max-shard-size many: give a size such as 5GB"),
        (["--quantize", "q8_0"], "--quantize q8_0 is a number format of GGUF; give --kind gguf"),
        (["--kind", "gguf", "--level", "2"], "llama.cpp reads the size of a head from block 0"),
        (["--kind", "nemotron-nas", "--level", "2"], "vLLM starts the sum of its blocks' outputs"),
    ],
)
def test_what_a_runtime_cannot_express_is_refused_in_one_line(
    options: list[str],
    mentioned: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(revision)
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out", *options) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.splitlines()) == 1
    assert {p.name for p in Path().iterdir()} == {"lake", "tiny"}


def test_a_gguf_file_states_its_origin(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter("Tiny-1M-Instruct.Q4_1.gguf", "llama")
    writer.add_organization("Some Lab")
    writer.add_license("apache-2.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    expected = ModelOrigin("Some-Lab/Tiny-1M-Instruct", "apache-2.0")
    assert model_origin("Tiny-1M-Instruct.Q4_1.gguf", tmp_path) == expected
    assert model_origin("hub:org/name", tmp_path) == ModelOrigin()


@pytest.mark.parametrize("is_named", [True, False])
def test_a_candidate_of_a_comparison_is_not_exported(
    is_named: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = explained_run(Path("lake"), labels=("fp16", "int8", "int4"))
    chosen = ("--strategy", "comparison") if is_named else ("--run", run_id)
    options = ("--level", "1", "--out", "out", "--lake", "lake")
    assert export(monkeypatch, "tiny", *chosen, *options) == 1
    assert "a candidate of a comparison is a model already" in capsys.readouterr().err
