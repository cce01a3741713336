"""Models that bring their own code: it runs only if the user trusts it, and the run records it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import prunelake as pl
from prunelake.command_line import sweep_command
from prunelake.errors import InvalidSpec, ModelError, UnsupportedModel
from prunelake.lake.read import read_run_columns
from prunelake.models.files.remote_code import code_references
from prunelake.models.levels import check_levels
from prunelake.models.loading import load_model
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import Rows, Strategy, SweepSpec
from prunelake.sweeps.run import run_sweep
from prunelake.watch.watchlist import read_watchlist
from tests.support.runs.lake_rows import rows_of

CODE = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path(r"{marker}").touch()


class OwnConfig(LlamaConfig):
    model_type = "own_llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
OWN_CLASSES = {
    "AutoConfig": "own_llama.OwnConfig",
    "AutoModelForCausalLM": "own_llama.OwnForCausalLM",
}


@pytest.fixture
def own_model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model of a type that transformers does not know; its code leaves the file `ran`."""
    folder = tmp_path / "own"
    shutil.copytree(tiny_folder, folder)
    change_config(folder, model_type="own_llama", auto_map=OWN_CLASSES)
    (folder / "own_llama.py").write_text(CODE.format(marker=tmp_path / "ran"))
    return folder


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def spec_of(folder: Path, **fields: Any) -> SweepSpec:
    shared: dict[str, Any] = {
        "task": "opinions",
        "rows": Rows(first=2),
        "levels": (0, 1),
        "strategy": Strategy(name="last"),
        "explain": None,
    }
    return SweepSpec(model=str(folder), **shared | fields)


def test_untrusted_code_does_not_run(own_model: Path, tmp_path: Path) -> None:
    message = r"needs its own code \(own_llama.py\), .* read it, and then sweep it with --trust-rem"
    with pytest.raises(UnsupportedModel, match=message):
        check_levels(str(own_model), None, "attention")
    with pytest.raises(UnsupportedModel, match=message):
        run_sweep(spec_of(own_model), Settings(lake=tmp_path / "lake", device="cpu"))
    with pytest.raises(UnsupportedModel, match=message):
        pl.load(own_model)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "lake").exists()


def test_trusted_code_runs_and_the_run_records_its_hash(own_model: Path, tmp_path: Path) -> None:
    settings = Settings(lake=tmp_path / "lake", device="cpu")
    spec = spec_of(own_model, trust_remote_code=True)
    check_levels(str(own_model), None, "attention", trust_remote_code=True)
    first = run_sweep(spec, settings)
    assert (tmp_path / "ran").exists()
    (row,) = rows_of(settings.lake, "select architecture, spec, identity from runs")
    assert row["architecture"] == "OwnForCausalLM"
    assert json.loads(row["spec"])["trust_remote_code"]
    assert json.loads(row["identity"])["remote_code"].startswith("sha256:")
    assert "--trust-remote-code" in sweep_command(spec)
    with (own_model / "own_llama.py").open("a") as code:
        code.write("# changed\n")
    assert run_sweep(spec, settings) != first
    copied = read_run_columns(settings.lake, ["copied"])["copied"]
    assert copied.list.len().to_list() == [0, 0]  # cells of another code are not copied


def test_code_beside_a_model_that_transformers_knows_does_not_run_untrusted(
    own_model: Path, tmp_path: Path
) -> None:
    change_config(own_model, model_type="llama")
    check_levels(str(own_model), None, "attention")
    source = resolve_model(str(own_model), tmp_path)
    assert source.remote_code == ""
    assert type(load_model(source).model).__name__ == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


def test_code_in_another_repository_is_refused(own_model: Path) -> None:
    change_config(own_model, auto_map={"AutoConfig": "org/name--own_llama.OwnConfig"})
    with pytest.raises(ModelError, match=r"code from another repository \(org/name--own_llama.Own"):
        check_levels(str(own_model), None, "attention", trust_remote_code=True)


@pytest.mark.parametrize("config", [{}, {"auto_map": None}, {"auto_map": {"AutoModel": "a.B"}}])
def test_other_configs_have_no_code(config: dict[str, Any]) -> None:
    assert code_references(config) == []


@pytest.mark.parametrize("source", ["query: {author: org}", "folder: models"])
def test_the_watchlist_trusts_named_models_only(source: str, tmp_path: Path) -> None:
    entry = "tasks: [opinions], trust_remote_code: true"
    path = tmp_path / "watchlist.yaml"
    path.write_text(f"models:\n- {{{source}, {entry}}}\n")
    with pytest.raises(
        InvalidSpec, match=r"trust_remote_code runs the code .* models that you name"
    ):
        read_watchlist(path)
    path.write_text(f"models:\n- {{model: hub:org/name, {entry}}}\n")
    (named,) = read_watchlist(path).entries
    assert [spec.trust_remote_code for spec in named.sweep_specs("hub:org/name@1")] == [True]
