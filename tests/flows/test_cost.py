"""The flow that profiles on a worker: its deployment, and its body without a server."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from prunelake.errors import UnknownLayer
from prunelake.flows import cost as flow_module
from prunelake.profiling.measurement import Workload
from prunelake.profiling.profile import ProfileRequest
from prunelake.settings import Settings
from prunelake.spec import Strategy
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.paths import ROOT
from tests.support.runs.profile_rows import profile_ids

QUICK = Workload(prompt_tokens=4, new_tokens=2, repeats=1)


@pytest.fixture
def wanted(tmp_path: Path) -> ProfileRequest:
    tiny_model("llama").save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return ProfileRequest(
        model=str(tmp_path / "tiny"), strategy=Strategy(name="last"), levels=(0, 2), load=QUICK
    )


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The tables that the flow would show on the page of a server."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(flow_module, "is_in_run", lambda: True)
    monkeypatch.setattr(
        flow_module, "create_table_artifact", lambda table, **_: found.extend(table)
    )
    return found


def test_a_worker_writes_the_profile_and_shows_it(
    tmp_path: Path,
    wanted: ProfileRequest,
    shown: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")
    with caplog.at_level(logging.INFO):
        profile_id = flow_module.cost.fn(wanted, settings)
    assert profile_ids(settings.lake) == [profile_id]
    assert [(row["profile_id"], row["level"]) for row in shown] == [
        (profile_id, 0),
        (profile_id, 2),
    ]
    assert "computing on cpu, as the settings say" in caplog.text
    assert f"profile {profile_id} is in the lake" in caplog.text


def test_a_failing_artifact_does_not_fail_a_profile(
    tmp_path: Path,
    wanted: ProfileRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(flow_module, "create_table_artifact", fail)
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")
    profile_id = flow_module.cost.fn(wanted, settings)
    assert profile_ids(settings.lake) == [profile_id]
    assert "is written, but not shown: RuntimeError: gone" in caplog.text


def test_a_failed_measurement_writes_nothing(tmp_path: Path, wanted: ProfileRequest) -> None:
    beyond = wanted.model_copy(update={"levels": (0, 6)})
    with pytest.raises(UnknownLayer, match="level 6"):
        flow_module.cost.fn(beyond, Settings(lake=tmp_path / "lake", device="cpu"))
    assert not (tmp_path / "lake").exists()


def test_the_entrypoint_of_the_deployment_accepts_the_parameters_of_the_guide() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (deployment,) = (d for d in deployments if d["name"] == "cost")
    assert deployment["work_pool"]["name"] == "gpu"
    found: Flow[..., object] = load_flow_from_entrypoint(
        deployment["entrypoint"], use_placeholder_flow=False
    )
    assert found.name == "cost"
    guide = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    (line,) = (row for row in guide.splitlines() if row.startswith("prefect deployment run cost"))
    parameters = yaml.safe_load(line.partition("--params ")[2].strip("'"))
    told = found.validate_parameters(parameters)["wanted"]
    assert (told.strategy.label, told.levels, told.load.repeats) == ("cosine", None, 5)
