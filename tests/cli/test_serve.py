"""`prunelake serve` as a separate process on a real socket."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from prunelake.cli.app import main
from prunelake.lake.storage.location import Location
from tests.support.limits import HANG_S
from tests.support.plain_install import plain_python
from tests.support.runs.example_runs import explained_run

PRUNELAKE = "from prunelake.cli.app import main; main()"


@contextmanager
def serving(
    lake: Location, *options: str, code: str = PRUNELAKE, **environment: str
) -> Iterator[tuple[str, str]]:
    """Run a server on a free port; yields its address and its output so far."""
    command = [sys.executable, "-c", code, "serve", "--lake", str(lake), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        while not (match := re.search(r"at (http://\S+)/ ", printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield match[1], printed
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=HANG_S)[0]
    assert process.returncode == 128 + signal.SIGINT, rest
    assert rest == ""


Refusal = Callable[..., str]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a `serve` that is refused, in this process, and return the one line of its error."""

    def run(*options: str, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["prunelake", "serve", *options])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return run


def test_serve_waits_for_a_lake_or_publishes_it_and_then_serves_and_stops(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    # The server runs as after `pip install prunelake`, without any extra.
    with serving(lake, code=plain_python() + PRUNELAKE) as (address, printed):
        assert f"no lake at {lake} yet" in printed
        assert httpx.get(f"{address}/health", timeout=HANG_S).status_code == 503
        assert not lake.exists()
        explained_run(lake)
        # A public address needs a token.
        with serving(lake, "--host", "::", PRUNELAKE_API_TOKEN="secret") as (public, printed):
            assert "publishing" in printed
            assert public.startswith("http://[::]:")
            here = public.replace("[::]", "[::1]")
            assert httpx.get(f"{here}/models", timeout=HANG_S).status_code == 401
            known = {"Authorization": "Bearer secret"}
            assert httpx.get(f"{here}/models", headers=known, timeout=HANG_S).status_code == 200
        assert httpx.get(f"{address}/health", timeout=HANG_S).json()["run_count"] == 1
        assert "<html" in httpx.get(f"{address}/", timeout=HANG_S).text
        # A header cannot pretend to come from localhost.
        claimed = {"Host": "lake.example", "X-Forwarded-Host": "localhost"}
        assert httpx.get(f"{address}/models", headers=claimed, timeout=HANG_S).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_public_address_without_a_token_is_refused(
    tmp_path: Path, refusal: Refusal, host: str
) -> None:
    explained_run(tmp_path)
    error = refusal("--lake", str(tmp_path), "--host", host, "--port", "0")
    assert "PRUNELAKE_API_TOKEN" in error


def test_the_error_names_a_port_in_use(tmp_path: Path, refusal: Refusal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = refusal("--lake", str(tmp_path), "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in error


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_ROWS", "0"), ("SQL_MAX_SECONDS", "soon"), ("SQL", "perhaps")]
)
def test_the_error_names_an_invalid_setting(
    tmp_path: Path, refusal: Refusal, name: str, value: str
) -> None:
    assert f"PRUNELAKE_API_{name}: " in refusal(
        "--lake", str(tmp_path), **{f"PRUNELAKE_API_{name}": value}
    )
