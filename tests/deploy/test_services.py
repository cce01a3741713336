"""The systemd units and the compose file: their commands, and settings that exist."""

import configparser
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prefect.settings import Settings as PrefectSettings

from prunelake.cli.app import app
from prunelake.settings import Settings
from tests.support.paths import ROOT

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
PREFECT_COMMANDS = ("server start", "worker start")


def env_file() -> dict[str, str]:
    lines = (ROOT / "deploy/systemd/prunelake.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def check_command(command: str) -> None:
    program, *arguments = shlex.split(command)
    if Path(program).name == "prefect":
        assert " ".join(arguments[:2]) in PREFECT_COMMANDS
        return
    assert Path(program).name == "prunelake"
    known = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]  # a group
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in arguments[1:] if word.startswith("--")} <= options


def check_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry is off where a server runs, and each variable is a setting."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    settings = {f"PRUNELAKE_{name.upper()}" for name in Settings.model_fields}
    for name in environment:
        if name.startswith("PRUNELAKE_") and name != "PRUNELAKE_API_TOKEN":
            assert name in settings, name
    prefect = PrefectSettings()
    if "PREFECT_SERVER_ANALYTICS_ENABLED" in environment:
        assert not prefect.server.analytics_enabled
        url = prefect.server.database.connection_url
        assert url is not None
        assert url.get_secret_value().startswith("postgresql+asyncpg://")
        assert prefect.server.services.db_vacuum.enabled_vacuum_types == {
            "events",
            "flow_runs",
            "orphans",
        }
        assert prefect.server.services.db_vacuum.retention_period.days == 30
    if "PREFECT_WORKER_QUERY_SECONDS" in environment:
        assert prefect.worker.query_seconds == 5


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_restarts_a_command_that_exists(path: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    unit.read_string(path.read_text("utf-8"))
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert service["EnvironmentFile"] == "/etc/prunelake/prunelake.env"
    check_command(service["ExecStart"])


def test_the_variables_of_the_units_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    check_environment(env_file(), monkeypatch)


@pytest.mark.parametrize("name", ["server", "worker", "api"])
def test_a_service_of_the_compose_file_is_a_command_that_exists(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = COMPOSE["services"][name]
    assert service["restart"] == "always"
    check_command(service["command"])
    check_environment(service["environment"], monkeypatch)


def test_the_services_of_the_compose_file_keep_their_data() -> None:
    mounted = {
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert mounted == COMPOSE["volumes"].keys()
