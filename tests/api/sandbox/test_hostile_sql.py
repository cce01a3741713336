"""Hostile SQL against a real server: refused or stopped in time, without harm or leaked secrets."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from benchmarks.server.serving import Server, served
from prunelake.analysis.analyse import analyse
from prunelake.api.queries.snapshots.snapshot import open_cursor, open_snapshot
from prunelake.api.sandbox.limited_query import run_query
from prunelake.api.sandbox.messages import SqlRequest
from prunelake.errors import QueryError
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import publish
from prunelake.lake.sql.bound_query import Connection
from prunelake.schema.row_formats import RowFormat
from tests.support.api.hostile_sql import (
    DEEPLY_NESTED,
    EXPENSIVE_QUERIES,
    LARGE_RESULTS,
    READS,
    WRITES,
)
from tests.support.api.sql_workers import alive, is_at_work, workers_of
from tests.support.endurance import repeats
from tests.support.limits import HANG_S
from tests.support.runs.example_runs import explained_run

TOKEN = "s3cret-of-the-server"
SECONDS = 10.0
BOMB_SECONDS = 0.3
PATIENCE = 20.0
"""A busy machine may take this much longer than the limit of a query."""

MEMORY = 300_000_000
SETTINGS = {
    "PRUNELAKE_API_TOKEN": TOKEN,
    "PRUNELAKE_API_SQL_MAX_SECONDS": str(SECONDS),
    "PRUNELAKE_API_SQL_MEMORY_BYTES": str(MEMORY),
    "PRUNELAKE_API_SQL_MAX_BYTES": "1000000",
    "PRUNELAKE_API_SQL_QUEUE": "4",
    "SOME_OTHER_SECRET": TOKEN,
}

CANARY = "what nobody may read"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "outside.txt").write_text(CANARY)
    explained_run(folder / "lake")
    publish(folder / "lake", analyse)
    return folder / "lake"


@pytest.fixture(scope="module")
def server(lake: Path) -> Iterator[Server]:
    """Serve the lake; afterwards no file in it or beside it has changed, and no process remains."""
    before = hashes(lake.parent)
    with served(lake, lake.parent.parent / "attacked.log", **SETTINGS) as found:
        yield found
        workers = workers_of(found.pid)
    assert hashes(lake.parent) == before
    assert not alive(workers)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    limits = httpx.Limits(max_connections=100)
    with httpx.Client(base_url=server.url, headers=headers, timeout=HANG_S, limits=limits) as found:
        assert found.get("/health").status_code == 200  # it has opened the snapshot
        yield found


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def filled(attack: str, lake: Path) -> str:
    """The attack with the paths of this lake."""
    return attack.format(
        folder=lake,
        snapshot=lake / SNAPSHOT_FILE,
        name=SNAPSHOT_FILE,
        file=lake / "runs" / "new.parquet",
        part=next(lake.glob("runs/*.parquet")),
        outside=lake.parent / "outside.txt",
        address="127.0.0.1:9",
    )


@pytest.fixture
def connection(lake: Path) -> Iterator[Connection]:
    """The snapshot as a process for SQL opens it."""
    with open_cursor(open_snapshot(lake / SNAPSHOT_FILE, MEMORY).connection) as found:
        yield found


@pytest.fixture
def harmless(lake: Path) -> Iterator[None]:
    """Check that a test changes no file."""
    before = hashes(lake.parent)
    yield
    assert hashes(lake.parent) == before


def refusal(connection: Connection, query: str) -> str:
    """Why a process for SQL does not answer; empty if it answers."""
    limits: dict[str, Any] = {
        "max_rows": 100,
        "max_bytes": 1_000_000,
        "max_seconds": 1,
        "memory_bytes": MEMORY,
    }
    try:
        run_query(connection, "", SqlRequest(query=query, format=RowFormat.json, **limits))
    except (QueryError, duckdb.Error) as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("harmless")
def test_statements_that_do_more_than_read_are_refused(lake: Path, connection: Connection) -> None:
    answered = [attack for attack in WRITES if not refusal(connection, filled(attack, lake))]
    assert not answered


@pytest.mark.usefixtures("harmless")
def test_nothing_outside_the_snapshot_can_be_read(lake: Path, connection: Connection) -> None:
    refusals = {attack: refusal(connection, filled(attack, lake)) for attack in READS}
    assert not [attack for attack, message in refusals.items() if not message]
    assert CANARY not in str(refusals)


NAMES_OF_FILES = [
    "from duckdb_databases()",
    "from duckdb_databases",
    "from system.main.duckdb_databases()",
    "from pragma_database_list",
    "from duckdb_settings()",
    "select current_setting('allowed_paths'), current_setting('secret_directory')",
    "select current_setting('temp_directory'), current_setting('home_directory')",
    "from duckdb_extensions()",
    "from duckdb_secrets()",
    "from duckdb_logs()",
    "from duckdb_external_file_cache()",
    "from duckdb_temporary_files()",
    "from pragma_database_size()",
    "from query('from duckdb_' || 'databases()')",
    "attach 'snapshot://prunelake.duckdb' as other",
    "from 'snapshot://prunelake.duckdb'",
    "from read_text('snapshot://prunelake.duckdb')",
    "from read_blob('snapshot://*')",
    "copy (select 1) to 'snapshot://prunelake.duckdb'",
]


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("query", NAMES_OF_FILES)
def test_no_answer_and_no_error_names_a_folder(
    lake: Path, connection: Connection, query: str
) -> None:
    limits: dict[str, Any] = {
        "max_rows": 1000,
        "max_bytes": 1_000_000,
        "max_seconds": 1,
        "memory_bytes": MEMORY,
    }
    try:
        request = SqlRequest(query=query, format=RowFormat.json, **limits)
        _, body = run_query(connection, "", request)
    except (QueryError, duckdb.Error) as error:
        body = str(error).encode()
    for folder in (lake, Path.home(), Path.cwd()):
        assert str(folder).encode() not in body


@pytest.mark.usefixtures("harmless")
def test_without_the_check_of_statements_duckdb_still_changes_no_file(lake: Path) -> None:
    snapshot = open_snapshot(lake / SNAPSHOT_FILE, MEMORY)
    # Queries that detach the snapshot come last.
    for attack in sorted(WRITES + READS, key=lambda attack: attack.startswith("detach")):
        with open_cursor(snapshot.connection) as connection, suppress(duckdb.Error):
            relation = connection.execute(filled(attack, lake))
            assert relation is None or CANARY not in str(relation.fetchall())


CONFINED = """
import sys, duckdb
from prunelake.api.sandbox.worker import SqlRequest, _limit_process
path, *attacks = sys.argv[1:]
connection = duckdb.connect(path, read_only=True)
limits = {"max_rows": 1, "max_bytes": 1, "max_seconds": 60, "memory_bytes": 500_000_000}
_limit_process(SqlRequest(query="", format="json", **limits))
for attack in attacks:
    try:
        print(connection.execute(attack).fetchall())
    except duckdb.Error:
        pass
print(connection.sql("select count(*) from runs").fetchall())
"""


@pytest.mark.usefixtures("harmless")
def test_without_the_settings_of_duckdb_the_process_still_opens_no_file(lake: Path) -> None:
    path = str(lake / SNAPSHOT_FILE)
    attacks = [filled(attack, lake) for attack in WRITES if "copy" in attack]
    attacks += [filled(attack, lake) for attack in READS if "{outside}" in attack]
    own_priority = session_priority()
    ran = subprocess.run(
        [sys.executable, "-c", CONFINED, path, *attacks],
        capture_output=True,
        text=True,
        check=True,
    )
    assert CANARY not in ran.stdout
    assert ran.stdout.endswith("[(1,)]\n")
    assert session_priority() == own_priority


def session_priority() -> str:
    """The priority of this session, if the system has one."""
    autogroup = Path("/proc/self/autogroup")
    return autogroup.read_text() if autogroup.exists() else ""


def asked(client: httpx.Client, query: str, seconds: float = SECONDS) -> httpx.Response:
    """The answer of the server once a process is free; each answer comes soon after the limit."""
    while True:
        began = time.monotonic()
        answer = client.post("/sql", json={"query": query, "max_seconds": seconds})
        assert time.monotonic() - began < seconds + PATIENCE
        if answer.status_code != 429:
            return answer


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_attacks_over_http_are_refused(lake: Path, client: httpx.Client) -> None:
    for attack in WRITES[: repeats(2, 4)] + READS[:: repeats(24, 8)]:  # each takes a process
        answer = asked(client, filled(attack, lake))
        assert (answer.status_code, code(answer)) == (422, "invalid_sql"), attack
        assert CANARY not in answer.text


# The short form has one query for each kind of resource: time, memory, recursion, patterns, sleep.
@pytest.mark.parametrize("bomb", EXPENSIVE_QUERIES[:: repeats(6, 1)])
def test_a_bomb_is_stopped_within_its_limits(client: httpx.Client, bomb: str) -> None:
    answer = asked(client, bomb, BOMB_SECONDS)
    assert answer.status_code == 422
    assert code(answer) in ("limit_exceeded", "invalid_sql")


@pytest.mark.parametrize("kind", [*DEEPLY_NESTED][:: repeats(6, 1)])
def test_hostile_texts_are_answered_or_refused(client: httpx.Client, kind: str) -> None:
    answer = asked(client, DEEPLY_NESTED[kind], BOMB_SECONDS)
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("giant", LARGE_RESULTS[:: repeats(2, 1)])
def test_an_endless_answer_is_cut_or_stopped(client: httpx.Client, giant: str) -> None:
    answer = asked(client, giant, BOMB_SECONDS)
    if answer.status_code == 200:
        assert answer.json()["is_truncated"]
        assert len(answer.content) <= 1_000_000
    else:
        assert code(answer) == "limit_exceeded"


def test_many_bombs_at_once_leave_the_server_answering(client: httpx.Client) -> None:
    url, query = client.base_url, "select count(*) from range(1000000000000), range(100000)"
    body = json.dumps({"query": query, "max_seconds": BOMB_SECONDS})
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}

    def bomb(_: int) -> tuple[int, float]:
        began = time.monotonic()
        connection = HTTPConnection(url.host, url.port or 0)
        with closing(connection):
            connection.request("POST", "/sql", body, headers)
            return connection.getresponse().status, time.monotonic() - began

    waits = []
    count = repeats(20, 50)
    with ThreadPoolExecutor(count) as pool:
        bombs = [pool.submit(bomb, number) for number in range(count)]
        while not all(future.done() for future in bombs):
            began = time.monotonic()
            assert client.get("/health").status_code == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
    statuses, seconds = zip(*(future.result() for future in bombs), strict=True)
    assert set(statuses) <= {422, 429}
    assert max(seconds) < BOMB_SECONDS + PATIENCE
    assert max(waits) < PATIENCE
    assert asked(client, "select 1").status_code == 200


def test_no_process_knows_the_token(server: Server, client: httpx.Client) -> None:
    assert TOKEN in Path(f"/proc/{server.pid}/environ").read_text()
    asked(client, "select 1")
    environments: list[str] = []
    until = time.monotonic() + HANG_S
    while not any(environments) and time.monotonic() < until:
        for worker in workers_of(server.pid):
            with suppress(OSError):  # it has ended
                # Until it runs the worker's program, it has the environment of the server.
                if b"sandbox.worker" in Path(f"/proc/{worker}/cmdline").read_bytes():
                    environments.append(Path(f"/proc/{worker}/environ").read_text())
    assert any("ARROW_DEFAULT_MEMORY_POOL" in environment for environment in environments)
    assert not [found for found in environments if TOKEN in found or "PRUNELAKE" in found]
    for name in ("duckdb_settings", "duckdb_variables", "duckdb_secrets"):
        answer = asked(client, f"from {name}()")
        assert answer.status_code == 200
        assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("ending", "seconds"),
    [pytest.param(signal.SIGTERM, 3, marks=pytest.mark.endurance), (signal.SIGKILL, 30)],
)
def test_no_process_outlives_the_server(
    lake: Path, tmp_path: Path, ending: signal.Signals, seconds: float
) -> None:
    settings = {"PRUNELAKE_API_SQL_MAX_SECONDS": "30"}
    with (
        served(lake, tmp_path / "log", **settings) as server,
        httpx.Client(base_url=server.url, timeout=HANG_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        body = {"query": EXPENSIVE_QUERIES[0], "max_seconds": seconds}
        running = pool.submit(client.post, "/sql", json=body)
        while not any(map(is_at_work, workers := workers_of(server.pid))):
            assert not running.done()
            time.sleep(0.01)
        os.kill(server.pid, ending)
        with suppress(httpx.HTTPError):
            assert code(running.result()) == "limit_exceeded"
    assert not alive(workers)
