"""Hostile SQL against a real server: refused, or stopped in time, and nothing is harmed or told."""

import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import duckdb
import httpx
import pytest

from api.query import Connection
from api.snapshot import open_snapshot, opened
from api.sql_worker import Question, run
from benchmarks.serving import Server, served
from prunelake.errors import QueryError
from prunelake.formats import RowFormat
from prunelake.publish import NAME, publish
from tests.level_rows import explained_run

TOKEN = "s3cret-of-the-server"
SECONDS = 2.0
MEMORY = 300_000_000
SETTINGS = {
    "PRUNELAKE_API_TOKEN": TOKEN,
    "PRUNELAKE_API_SQL_MAX_SECONDS": str(SECONDS),
    "PRUNELAKE_API_SQL_MEMORY_BYTES": str(MEMORY),
    "PRUNELAKE_API_SQL_MAX_BYTES": "1000000",
    "SOME_OTHER_SECRET": TOKEN,
}

CANARY = "what nobody may read"

WRITES = [
    "copy (select 1) to '{file}'",
    "copy (select 1) to '{snapshot}' (use_tmp_file false)",
    "with t as (copy (select 1) to '{file}') from t",
    "with t as (copy (select 1) to '{snapshot}' (use_tmp_file false)) select * from t",
    "select * from (with t as (copy (select 1) to '{snapshot}') from t)",
    "pivot (with t as (copy (select 1) to '{file}') from t) on 1 using count(*)",
    "copy lake.runs from '{outside}'",
    "export database '{folder}'",
    "import database '{folder}'",
    "attach '{file}' as other",
    "attach '{snapshot}' as other (read_write)",
    "attach ':memory:' as other",
    "detach prunelake",
    "use memory",
    "install httpfs",
    "load httpfs",
    "load '{outside}'",
    "set enable_external_access = true",
    "set disabled_filesystems = ''",
    "set lock_configuration = false",
    "set memory_limit = '100GB'",
    "set threads = 64",
    "reset memory_limit",
    "set variable x = 1",
    "pragma enable_profiling",
    "pragma database_list",
    "pragma memory_limit = '100GB'",
    "call pragma_version()",
    "call checkpoint()",
    "checkpoint",
    "force checkpoint",
    "vacuum",
    "analyze",
    "begin",
    "commit",
    "explain analyze select 1",
    "prepare p as select 1",
    "execute p",
    "create secret s (type s3, key_id 'x', secret 'y')",
    "drop view summary",
    "drop table lake.runs",
    "drop schema lake cascade",
    "create table t as select 1",
    "create or replace view runs as select 1",
    "create temp table t as select 1",
    "create table memory.main.t as select 1",
    "create macro f() as 1",
    "create type t as integer",
    "create sequence s",
    "insert into lake.runs select * from lake.runs",
    "with t as (insert into lake.runs select * from lake.runs returning *) from t",
    "update lake.runs set model = 'x'",
    "delete from lake.runs",
    "merge into lake.runs using lake.runs as s on false when matched then delete",
    "truncate lake.runs",
    "alter table lake.runs add column x integer",
    "comment on view summary is 'x'",
    "select 1; drop view summary",
    "drop view summary; select 1",
    "select 1); drop view summary; select (1",
    "select * from query('drop view summary')",
    "select * from query('select 1; drop view summary')",
    "select * from json_execute_serialized_sql('{{}}')",
    "from enable_logging()",
    "from enable_logging(storage := 'file', storage_config := {{'path': '{file}'}})",
    "from enable_profiling()",
    "from register_external_resource('x', 'y')",
    "from create_external_resource('x', 'y')",
    "",
    ";",
    "--",
    "/*",
]
"""What is more than reading."""

READS = [
    "from '{outside}'",
    'from "{outside}"',
    "from '{outside}.csv'",
    "from '/etc/passwd'",
    "from '{part}'",
    "from '*.parquet'",
    "from '{snapshot}'",
    "select * from read_text('{outside}')",
    "select * from read_blob('{outside}')",
    "select * from read_csv('{outside}')",
    "select * from read_csv_auto('{outside}')",
    "select * from sniff_csv('{outside}')",
    "select * from read_json('{outside}')",
    "select * from read_json_objects('{outside}')",
    "select * from read_ndjson_objects('{outside}')",
    "select * from read_parquet('{part}')",
    "select * from parquet_scan('{part}')",
    "select * from parquet_schema('{part}')",
    "select * from parquet_metadata('{part}')",
    "select * from parquet_kv_metadata('{part}')",
    "select * from read_blob('{snapshot}')",
    "select * from read_blob('{name}')",
    "select * from read_duckdb('{snapshot}')",
    "select * from read_text('{folder}/**')",
    "select * from glob('{folder}/*')",
    "select * from glob('/**')",
    "select * from read_text('/proc/self/environ')",
    "select * from read_text('/proc/self/maps')",
    "select * from read_text('/dev/stdin')",
    "select * from read_text('/dev/fd/0')",
    "select * from read_text('http://{address}/health')",
    "select * from read_csv('https://{address}/verdicts?format=csv')",
    "select * from read_parquet('s3://bucket/file.parquet')",
    "select * from read_parquet('hf://datasets/a/b.parquet')",
    "from 'http://{address}/verdicts?format=csv'",
    "select content from read_text((select '{outside}'))",
    "select * from query('from read_text(''{outside}'')')",
    "select * from query_table('{outside}')",
    "select getenv('PRUNELAKE_API_TOKEN')",
    "from duckdb_secrets(redact := false)",
    "from arrow_scan(1, 1, 1)",
    "from arrow_scan_dumb(1, 1, 1)",
    "from pandas_scan(1)",
    "from python_arrow_scan(1)",
    "from python_map_function((select 1))",
    "from connection",
    "from snapshots",
    "from question",
    "from frame",
    "from pl",
    "from os.environ",
]
"""What is not in the snapshot."""

BOMBS = [
    "select count(*) from range(1000000000000), range(100000)",
    "select count(*) from range(1000000000), range(1000000000)",
    "select repeat('x', 2000000000)",
    "select range(1000000000)",
    "select list_sum(list_transform(range(300000000), x -> x * x))",
    "select string_agg(i::varchar, ',') from range(1000000000) t(i)",
    "select list_aggregate(range(100000000), 'string_agg', ',')",
    "select array_agg(a.i order by b.i) from range(100000) a(i), range(100000) b(i)",
    "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t",
    "with recursive t(s) as (select 'x' union all select s || s from t) select max(s) from t",
    "select regexp_replace(repeat('ab', 9000000), '(a|b)*?(a|b)*?(a|b)*?c', 'x', 'g')",
    "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "select sleep_ms(100000)",
    "select printf('%2000000000d', 1)",
    "pivot (from range(100000000)) on range using count(*)",
]
"""What takes all the time or memory there is."""

DEEP = {
    "parentheses": "select " + "(" * 10_000 + "1" + ")" * 10_000,
    "lists": "select " + "[" * 10_000 + "1" + "]" * 10_000,
    "subqueries": "select * from " + "(" * 10_000 + "select 1" + ")" * 10_000,
    "scalar subqueries": "select " + "(select " * 5_000 + "1" + ")" * 5_000,
    "negations": "select " + "not " * 20_000 + "true",
    "minuses": "select " + "- " * 40_000 + "1",
    "sums": "select " + "+".join(["1"] * 40_000),
    "functions": "select " + "abs(" * 15_000 + "1" + ")" * 15_000,
    "unions": " union all ".join(["select 1"] * 5_000),
    "joins": "select count(*) from " + ", ".join(["runs"] * 3_000),
    "tables": "with " + ", ".join(f"t{i} as (select 1)" for i in range(3_000)) + " select 1",
    "columns": "select " + ", ".join(f"{i} as c{i}" for i in range(5_000)),
    "structs": "select " + "{'a': " * 5_000 + "1" + "}" * 5_000,
    "a type": "select null::integer" + "[]" * 20_000,
    "a name": 'select 1 as "' + "x" * 99_000 + '" from range(10000)',
    "a text": "select '" + "x" * 99_000 + "' from range(10000)",
    "a comment": "select 1 /*" + "/*" * 49_000,
}
"""Text that is itself the weapon."""

GIANTS = [
    "select * from range(1000000000000)",
    "select repeat('x', 900) as x from range(1000000)",
    "select range(1000) as x from range(1000000)",
    "select {'a': [{'b': repeat('x', 100)}]} as x from range(1000000)",
    "select columns(*) from (select " + ", ".join(f"null as c{i}" for i in range(500)) + ") "
    "cross join range(1000000)",
]
"""Answers without end."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "outside.txt").write_text(CANARY)
    explained_run(folder / "lake")
    publish(folder / "lake")
    return folder / "lake"


@pytest.fixture(scope="module")
def server(lake: Path) -> Iterator[Server]:
    """Serves the lake; afterwards no file beside or in it has changed, and no process is left."""
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
    with httpx.Client(base_url=server.url, headers=headers, timeout=30, limits=limits) as found:
        assert found.get("/health").status_code == 200  # it has opened the snapshot
        yield found


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def workers_of(pid: int) -> set[int]:
    """The processes that a process has started."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = status.read_text().rpartition(") ")
            if int(rest.split()[1]) == pid:
                found.add(int(status.parent.name))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run after 10 s."""
    until = time.monotonic() + 10
    while left := {pid for pid in pids if Path(f"/proc/{pid}").exists()}:
        if time.monotonic() > until:
            return left
        time.sleep(0.05)
    return left


def filled(attack: str, lake: Path) -> str:
    """The attack with the paths of this lake."""
    return attack.format(
        folder=lake,
        snapshot=lake / NAME,
        name=NAME,
        file=lake / "runs" / "new.parquet",
        part=next(lake.glob("runs/*.parquet")),
        outside=lake.parent / "outside.txt",
        address="127.0.0.1:9",
    )


@pytest.fixture
def connection(lake: Path) -> Iterator[Connection]:
    """The snapshot as a process for SQL opens it."""
    with opened(open_snapshot(lake / NAME, MEMORY).connection) as found:
        yield found


@pytest.fixture
def harmless(lake: Path) -> Iterator[None]:
    """Whatever a test does, no file changes."""
    before = hashes(lake.parent)
    yield
    assert hashes(lake.parent) == before


def refusal(connection: Connection, query: str) -> str:
    """Why a process for SQL does not answer, or nothing."""
    limits = {"max_rows": 100, "max_bytes": 1_000_000, "max_seconds": 1, "memory_bytes": MEMORY}
    try:
        run(connection, "", Question(query=query, format=RowFormat.json, **limits))
    except (QueryError, duckdb.Error) as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("harmless")
def test_what_does_more_than_read_is_refused(lake: Path, connection: Connection) -> None:
    answered = [attack for attack in WRITES if not refusal(connection, filled(attack, lake))]
    assert not answered


@pytest.mark.usefixtures("harmless")
def test_what_is_not_in_the_snapshot_cannot_be_read(lake: Path, connection: Connection) -> None:
    refusals = {attack: refusal(connection, filled(attack, lake)) for attack in READS}
    assert not [attack for attack, message in refusals.items() if not message]
    assert CANARY not in str(refusals)


@pytest.mark.usefixtures("harmless")
def test_without_the_check_of_statements_duckdb_still_changes_no_file(lake: Path) -> None:
    snapshot = open_snapshot(lake / NAME, MEMORY)
    # Whatever detaches the snapshot comes last.
    for attack in sorted(WRITES + READS, key=lambda attack: attack.startswith("detach")):
        with opened(snapshot.connection) as connection, suppress(duckdb.Error):
            relation = connection.execute(filled(attack, lake))
            assert relation is None or CANARY not in str(relation.fetchall())


CONFINED = """
import sys, duckdb
from api.sql_worker import Question, _confine
path, *attacks = sys.argv[1:]
connection = duckdb.connect(path, read_only=True)
limits = {"max_rows": 1, "max_bytes": 1, "max_seconds": 60, "memory_bytes": 500_000_000}
_confine(Question(query="", format="json", **limits))
for attack in attacks:
    try:
        print(connection.execute(attack).fetchall())
    except duckdb.Error:
        pass
print(connection.sql("select count(*) from runs").fetchall())
"""


@pytest.mark.usefixtures("harmless")
def test_without_the_settings_of_duckdb_the_process_still_opens_no_file(lake: Path) -> None:
    path = str(lake / NAME)
    attacks = [filled(attack, lake) for attack in WRITES if "copy" in attack]
    attacks += [filled(attack, lake) for attack in READS if "{outside}" in attack]
    ran = subprocess.run(
        [sys.executable, "-c", CONFINED, path, *attacks],
        capture_output=True,
        text=True,
        check=True,
    )
    assert CANARY not in ran.stdout
    assert ran.stdout.endswith("[(1,)]\n")


def asked(client: httpx.Client, query: str, seconds: float = SECONDS) -> httpx.Response:
    """What the server answers once a process is free, each time within the limit and 2 s."""
    while True:
        began = time.monotonic()
        answer = client.post("/sql", json={"query": query, "max_seconds": seconds})
        assert time.monotonic() - began < seconds + 2
        if answer.status_code != 429:
            return answer


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_attacks_over_http_are_refused(lake: Path, client: httpx.Client) -> None:
    for attack in WRITES[:4] + READS[::8]:
        answer = asked(client, filled(attack, lake))
        assert (answer.status_code, code(answer)) == (422, "invalid_sql"), attack
        assert CANARY not in answer.text


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_stopped_within_its_limits(client: httpx.Client, bomb: str) -> None:
    answer = asked(client, bomb, 1)
    assert answer.status_code == 422
    assert code(answer) in ("limit_exceeded", "invalid_sql")


@pytest.mark.parametrize("kind", DEEP)
def test_text_as_a_weapon_is_answered_or_refused(client: httpx.Client, kind: str) -> None:
    answer = asked(client, DEEP[kind])
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("giant", GIANTS)
def test_an_answer_without_end_is_cut_or_stopped(client: httpx.Client, giant: str) -> None:
    answer = asked(client, giant)
    if answer.status_code == 200:
        assert answer.json()["is_truncated"]
        assert len(answer.content) <= 1_000_000
    else:
        assert code(answer) == "limit_exceeded"


def test_fifty_bombs_at_once_leave_the_server_answering(client: httpx.Client) -> None:
    url, query = client.base_url, "select count(*) from range(1000000000000), range(100000)"
    body = json.dumps({"query": query, "max_seconds": 1})
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}

    def bomb(_: int) -> tuple[int, float]:
        began = time.monotonic()
        connection = HTTPConnection(url.host, url.port or 0)
        with closing(connection):
            connection.request("POST", "/sql", body, headers)
            return connection.getresponse().status, time.monotonic() - began

    waits = []
    with ThreadPoolExecutor(50) as pool:
        bombs = [pool.submit(bomb, number) for number in range(50)]
        while not all(future.done() for future in bombs):
            began = time.monotonic()
            assert client.get("/health").status_code == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
    statuses, seconds = zip(*(future.result() for future in bombs), strict=True)
    assert set(statuses) <= {422, 429}
    assert max(seconds) < 1 + 2
    assert statistics.median(waits) < 0.2
    assert max(waits) < 2
    assert asked(client, "select 1").status_code == 200


def test_no_process_knows_the_token(server: Server, client: httpx.Client) -> None:
    assert TOKEN in Path(f"/proc/{server.pid}/environ").read_text()
    asked(client, "select 1")
    environments: list[str] = []
    until = time.monotonic() + 20
    while not any(environments) and time.monotonic() < until:
        for worker in workers_of(server.pid):
            with suppress(OSError):  # it has ended
                environments.append(Path(f"/proc/{worker}/environ").read_text())
    assert any("ARROW_DEFAULT_MEMORY_POOL" in environment for environment in environments)
    assert not [found for found in environments if TOKEN in found or "PRUNELAKE" in found]
    for name in ("duckdb_settings", "duckdb_variables", "duckdb_secrets"):
        answer = asked(client, f"from {name}()")
        assert answer.status_code == 200
        assert TOKEN not in answer.text


@pytest.mark.parametrize(("ending", "seconds"), [(signal.SIGTERM, 3), (signal.SIGKILL, 30)])
def test_no_process_outlives_the_server(
    lake: Path, tmp_path: Path, ending: signal.Signals, seconds: float
) -> None:
    settings = {"PRUNELAKE_API_SQL_MAX_SECONDS": "30"}
    with (
        served(lake, tmp_path / "log", **settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        body = {"query": BOMBS[0], "max_seconds": seconds}
        running = pool.submit(client.post, "/sql", json=body)
        while not any(map(is_at_work, workers := workers_of(server.pid))):
            assert not running.done()
            time.sleep(0.01)
        os.kill(server.pid, ending)
        with suppress(httpx.HTTPError):
            assert code(running.result()) == "limit_exceeded"
    assert not alive(workers)


def is_at_work(pid: int) -> bool:
    """Whether a process has a query: it then can open no file."""
    with suppress(OSError):
        return re.search(r"Max open files +0 ", Path(f"/proc/{pid}/limits").read_text()) is not None
    return False
