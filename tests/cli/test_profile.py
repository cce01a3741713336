"""`prunelake profile` writes a profile of the order in the lake, or of a computed order."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import OutOfMemoryError
from transformers import PreTrainedModel

from prunelake.cli.app import main
from prunelake.lake import read
from prunelake.lake.sql.views import query
from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.profiling import measurement
from prunelake.spec import Strategy
from prunelake.strategies.removal_order import RemovalOrder, removal_order
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.runs.lake_rows import run_row, write_raw

ORDER = [3, 0, 1, 4, 2]
QUICK = ("--prompt-tokens", "4", "--new-tokens", "2", "--repeats", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PRUNELAKE_LAKE", "PRUNELAKE_DTYPE", "PRUNELAKE_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def revision(tmp_path: Path) -> str:
    """The revision of a model in the folder `tiny`, whose context fits calibration windows."""
    tiny_model("llama", max_position_embeddings=2048).save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return resolve_model("tiny", tmp_path).revision


class Command:
    """`prunelake profile --model tiny` with further options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *options: str) -> str:
        code, out, err = self._run(*options)
        assert (code, err) == (0, "")
        return out

    def fails(self, *options: str) -> str:
        code, _, err = self._run(*options)
        assert code != 0
        return err

    def _run(self, *options: str) -> tuple[Any, str, str]:
        arguments = ["prunelake", "profile", "--model", "tiny", *QUICK, *options]
        self._monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as exit_:
            main()
        return (exit_.value.code, *self._capsys.readouterr())


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def write_run_of_model(revision: str, name: str = "run", **columns: Any) -> str:
    row: dict[str, Any] = {"revision": revision, "removal_order": ORDER, "levels": [0, 1, 3]}
    return write_raw(Path("lake"), run_row(name, **row | columns))


def only_profile() -> dict[str, Any]:
    (row,) = read.read_table(Path("lake"), "profiles").to_dicts()
    return row


def test_levels_and_order_come_from_the_run_in_the_lake(revision: str, profile: Command) -> None:
    run_id = write_run_of_model(revision)
    out = profile()
    row = only_profile()
    assert f"removal order of run {run_id} of the lake" in out
    assert out.endswith(f"profile {row['profile_id']} is in the lake lake\n")
    assert {name: row[name] for name in ("model", "revision", "strategy", "dtype", "device")} == {
        "model": "tiny",
        "revision": revision,
        "strategy": "cosine",
        "dtype": "float32",
        "device": "cpu",
    }
    assert (row["removal_order"], row["levels"], row["layer_count"]) == (ORDER, [0, 1, 3], 5)
    assert (row["batch"], row["prompt_tokens"], row["new_tokens"], row["repeats"]) == (1, 4, 2, 2)
    assert row["load_average"] >= 0
    rows = query(Path("lake"), "from efficiency order by level").to_dicts()
    assert [(row["run_id"], row["level"]) for row in rows] == [(run_id, n) for n in (0, 1, 3)]
    whole = tiny_model("llama")
    every = sum(parameter.numel() for parameter in whole.parameters())
    assert rows[0]["parameter_count"] == every
    attention = sum(
        p.numel() for p in removable_parts(whole, "attention")[0][0].module.parameters()
    )
    assert rows[2]["parameter_count"] == every - 3 * attention
    assert rows[2]["kv_share"] == pytest.approx(2 / 5)
    assert rows[2]["decode_tokens_per_second"] > 0
    low, middle, high = (round(rows[2][f"decode_speedup{end}"], 2) for end in ("_low", "", "_high"))
    assert f"{middle} ({low} to {high})" in out


def test_an_order_that_the_lake_lacks_is_computed_as_by_a_sweep(
    revision: str, profile: Command
) -> None:
    out = profile("--strategy", "random:3", "--levels", "2")
    assert "has no run of this model by random:3: computing its order" in out
    model = load_model(resolve_model("tiny", Path())).model
    expected = removal_order(model, Strategy(name="random", seed=3), ()).layers
    assert only_profile()["removal_order"] == [*expected]
    assert only_profile()["levels"] == [0, 2]
    assert only_profile()["strategy"] == "random:3"
    assert only_profile()["revision"] == revision


def test_an_order_of_text_is_computed_once_for_all_exports_and_profiles(
    revision: str, profile: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNELAKE_CACHE", str(tmp_path / "cache"))
    asked = list[int]()

    def counted(
        model: PreTrainedModel, strategy: Strategy, windows: Sequence[Sequence[int]], *, depth: int
    ) -> RemovalOrder:
        asked.append(depth)
        return removal_order(model, strategy, windows, depth=depth)

    monkeypatch.setattr("prunelake.sweeps.found_order.removal_order", counted)
    profile("--strategy", "iterative", "--levels", "2")
    first = only_profile()
    profile("--strategy", "iterative", "--levels", "1")
    assert (asked, only_profile()["removal_order"]) == ([2], first["removal_order"])
    profile("--strategy", "iterative", "--levels", "3")  # deeper than the first search
    assert asked == [2, 3]
    assert only_profile()["removal_order"][:2] == first["removal_order"][:2]
    profile("--strategy", "last", "--levels", "1")  # reads no text
    profile("--strategy", "last", "--levels", "1")
    assert asked == [2, 3, 1, 1]
    assert first["revision"] == revision


def test_the_strategy_mlp_removes_mlps(revision: str, profile: Command) -> None:
    run_id = write_run_of_model(revision, strategy="mlp:cosine")
    write_run_of_model(revision, "attention", removal_order=[1, 2, 3, 4, 0])
    profile("--strategy", "mlp:cosine")
    sql = "select run_id, kv_share, parameter_share < 1 as lighter from efficiency where level = 3"
    rows = query(Path("lake"), sql).to_dicts()
    assert rows == [{"run_id": run_id, "kv_share": 1.0, "lighter": True}]
    assert "level 6: the model has 5 MLPs" in profile.fails(
        "--strategy", "mlp:last", "--levels", "6"
    )


def test_without_a_run_the_levels_go_up_to_half_of_the_layers(
    revision: str, profile: Command
) -> None:
    profile("--strategy", "last")
    assert (only_profile()["levels"], only_profile()["revision"]) == ([0, 1, 2], revision)


def test_a_second_measurement_replaces_the_first(revision: str, profile: Command) -> None:
    write_run_of_model(revision)
    profile()
    first = only_profile()["profile_id"]
    profile("--levels", "1")
    assert only_profile()["profile_id"] != first
    assert only_profile()["levels"] == [0, 1]


def test_runs_with_different_orders_need_a_choice(revision: str, profile: Command) -> None:
    first = write_run_of_model(revision)
    second = write_run_of_model(revision, "b", removal_order=[3, 1, 0, 2, 4], levels=[0, 2])
    err = profile.fails()
    assert "the lake's runs remove different layers at level 2" in err
    assert "choose one with --run" in err
    assert first in profile.fails("--run", "nonsense")
    assert not Path("lake/profiles").exists()
    profile("--run", second)
    assert (only_profile()["removal_order"][1], only_profile()["levels"]) == (1, [0, 2])


def test_runs_with_the_same_order_contribute_all_their_levels(
    revision: str, profile: Command
) -> None:
    write_run_of_model(revision)
    write_run_of_model(revision, "b", task="other", levels=[0, 2])
    profile()
    assert only_profile()["levels"] == [0, 1, 2, 3]
    rows = query(Path("lake"), "select task, level from efficiency order by all").rows()
    assert rows == [("demo", 0), ("demo", 1), ("demo", 3), ("other", 0), ("other", 2)]


def test_the_order_comes_from_the_run_in_the_measured_number_format(
    revision: str, profile: Command
) -> None:
    write_run_of_model(revision)
    write_run_of_model(
        revision, "b", dtype="bfloat16", removal_order=[4, 3, 2, 1, 0], levels=[0, 2]
    )
    assert "choose one with --run" in profile.fails()
    profile("--dtype", "bfloat16")
    row = only_profile()
    assert (row["dtype"], row["removal_order"][0], row["levels"]) == ("bfloat16", 4, [0, 2])
    formats = query(Path("lake"), "select distinct dtype from efficiency")
    assert formats["dtype"].to_list() == ["bfloat16"]
    write_run_of_model(revision, "c", dtype="float16")
    write_run_of_model(revision, "d", removal_order=[3, 0, 1, 2, 4])
    assert "choose one with --run" in profile.fails()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--levels", "0,6"), "level 6: the model has 5 attention layers; levels go"),
        (("--levels", "-1"), "level -1: the model has 5 attention layers; levels go from 0 to 5"),
        (("--levels", "two"), "'two' is not a list of whole numbers like 0,4,8"),
        (("--repeats", "0"), "--repeats 0: Input should be greater than or equal to 1"),
        (("--new-tokens", "0"), "--new-tokens 0: Input should be greater than"),
        (("--batch", "-2"), "--batch -2: Input should be greater than"),
        (("--prompt-tokens", "2047"), "2047 prompt tokens and 2 new tokens are 2049; the"),
        (
            ("--dtype", "int3"),
            "--dtype int3: Input should be 'float32', 'tf32', 'float32_bf16'",
        ),
        (("--strategy", "best"), "--strategy best: Input should be 'cosine'"),
        (
            ("--strategy", "divergence"),
            "strategy divergence searches its order on examples of a task",
        ),
        (("--model", "absent"), "absent"),
        (("--run", "0123"), "run '0123' does not belong to this model, revision and strategy"),
        (("--calibration", "absent.txt"), "absent.txt"),
    ],
)
def test_an_invalid_profile_is_an_error_of_one_line_and_writes_nothing(
    revision: str, profile: Command, options: tuple[str, ...], message: str
) -> None:
    assert revision
    err = profile.fails(*options)
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert not Path("lake").exists()


@pytest.mark.parametrize(("load", "is_told"), [(0.25, False), (1.5, True)])
def test_a_busy_machine_is_reported_and_stored(
    revision: str, profile: Command, monkeypatch: pytest.MonkeyPatch, load: float, is_told: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 9.0, 9.0))
    out = profile("--strategy", "last")
    warning = f"warning: {load} processes competed for"
    assert (warning in out) == is_told
    assert ("measurements on a busy machine are worthless" in out) == is_told
    assert (f"The machine was busy (load {load})" in out) == is_told
    assert (only_profile()["load_average"], only_profile()["revision"]) == (load, revision)


def test_an_unsupported_number_format_is_an_error_of_one_line(
    revision: str, profile: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelake.models.precision._matmul_rounds_to_bfloat16", lambda _: False)
    err = profile.fails("--dtype", "float32_bf16", "--strategy", "last")
    assert "does not multiply float32 in bfloat16" in err
    assert len(err.splitlines()) == 1
    assert revision
    assert not Path("lake").exists()


def test_a_missing_device_is_an_error_of_one_line(
    revision: str, profile: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNELAKE_DEVICE", "cuda:99")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    err = profile.fails("--strategy", "last")
    assert "PRUNELAKE_DEVICE=cuda:99: this machine has " in err
    assert revision
    assert not Path("lake").exists()


def test_too_little_memory_is_an_error_of_one_line(
    revision: str, profile: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")

    monkeypatch.setattr(measurement, "_next_token", fail)
    err = profile.fails("--strategy", "last", "--batch", "9")
    assert "9 sequences of 4 tokens do not fit into memory (OutOfMemoryError: CUDA out of" in err
    assert len(err.splitlines()) == 1
    assert revision
    assert not Path("lake/profiles").exists()


def test_a_read_only_lake_is_an_error_before_any_measurement(
    revision: str, profile: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("measured")

    monkeypatch.setattr(measurement, "_generate", fail)
    Path("lake").write_text("a file")
    err = profile.fails("--strategy", "last")
    assert "lake" in err
    assert len(err.splitlines()) == 1
    assert revision
