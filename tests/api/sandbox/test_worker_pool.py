"""Workers that end, fail to start, or wait while a snapshot is published."""

import asyncio
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.api.sandbox.messages import READY_LINE, SqlRequest, SqlResponseHeader
from prunelake.api.sandbox.worker_pool import WorkerPool
from prunelake.api.settings import ApiSettings
from prunelake.errors import NoSnapshot, ServerBusy
from prunelake.lake.publish import publish
from prunelake.schema.row_formats import RowFormat
from tests.support.api.api_client import api_client
from tests.support.runs.lake_rows import small_run, write


def test_a_waiting_process_reads_the_latest_snapshot(tmp_path: Path) -> None:
    def add(name: str) -> None:
        run_row, rows = small_run(name)
        write(tmp_path, run_row, **{name: frame.to_dicts() for name, frame in rows.items()})
        publish(tmp_path, analyse)

    add("first")
    count = {"query": "select count(*) as runs from runs"}
    with api_client(tmp_path, sql=True, sql_processes=1, sql_max_seconds=30) as client:
        before = client.post("/sql", json=count).json()
        add("second")
        after = client.post("/sql", json=count).json()
        assert after["snapshot"] == client.get("/health").json()["snapshot"] != before["snapshot"]
    assert (before["rows"], after["rows"]) == ([{"runs": 1}], [{"runs": 2}])


def request_of(query: str, seconds: float) -> SqlRequest:
    return SqlRequest(
        query=query,
        format=RowFormat.csv,
        max_rows=1,
        max_bytes=100,
        max_seconds=seconds,
        memory_bytes=500_000_000,
    )


def test_a_process_that_ends_while_waiting_is_replaced(sql_lake: Path) -> None:
    async def killed() -> bytes:
        workers = WorkerPool(sql_lake, ApiSettings(sql_processes=1))
        async with workers.started():
            await workers.execute(request_of("select 1", 30))
            process = await workers._idle.get()
            process.kill()
            await process.wait()
            workers._idle.put_nowait(process)
            _, body = await workers.execute(request_of("select 2 as x", 30))
        assert not workers._alive
        return body

    assert asyncio.run(killed()) == b"x\n2\n"


def test_processes_start_once_there_is_a_lake(tmp_path: Path) -> None:
    async def late() -> None:
        settings = ApiSettings(sql_processes=1, sql_queue_seconds=0.2)
        workers = WorkerPool(tmp_path / "late", settings)
        async with workers.started():
            with pytest.raises(ServerBusy, match=r"within 0\.2 s none of the 1 processes"):
                await workers.execute(request_of("select 1", 30))
            workers.settings = ApiSettings(sql_processes=1)
            (tmp_path / "late").mkdir()
            with pytest.raises(NoSnapshot):
                await workers.execute(request_of("select 1", 30))

    asyncio.run(late())


def test_a_failed_start_of_a_process_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def without_python() -> None:
        workers = WorkerPool(tmp_path, ApiSettings(sql_processes=1))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.executable", str(tmp_path / "no_python"))
            async with workers.started():
                while "could not be started" not in caplog.text:
                    await asyncio.sleep(0.01)
                patched.undo()
                with pytest.raises(NoSnapshot):
                    await workers.execute(request_of("select 1", 30))

    asyncio.run(without_python())


def test_queries_wait_in_a_queue_of_bounded_length(tmp_path: Path) -> None:
    async def crowd() -> None:
        # No process starts, so all queries wait.
        workers = WorkerPool(tmp_path, ApiSettings(sql_queue=30))
        waiting = [
            asyncio.ensure_future(workers.execute(request_of("select 1", 30))) for _ in range(30)
        ]
        await asyncio.sleep(0)
        with pytest.raises(ServerBusy, match="30 queries wait already"):
            await workers.execute(request_of("select 1", 30))
        # A client that leaves makes room for another.
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        waiting[0] = asyncio.ensure_future(workers.execute(request_of("select 1", 30)))
        await asyncio.sleep(0)
        assert not any(query.done() for query in waiting)
        for query in waiting:
            query.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert workers._waiting_count == 0

    asyncio.run(crowd())


def test_30_parallel_queries_are_all_answered_by_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SqlResponseHeader(snapshot="a", row_count=7).model_dump_json()
    # A process that answers like a worker, and starts in a millisecond.
    quick = f"echo {READY_LINE.decode().strip()}; read request; echo '{answer}'"
    start = asyncio.create_subprocess_exec
    most = 0

    async def crowd() -> list[int]:
        workers = WorkerPool(tmp_path, ApiSettings(sql_processes=2))

        async def started(*_: str, **settings: Any) -> Process:
            nonlocal most
            most = max(most, len(workers._alive) + 1)
            return await start("sh", "-c", quick, **settings)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
        async with workers.started():
            asked = (workers.execute(request_of("select 1", 600)) for _ in range(30))
            answers = await asyncio.gather(*asked)
        return [header.row_count for header, _ in answers]

    assert asyncio.run(crowd()) == [7] * 30
    assert most == 2


def test_the_process_of_a_client_that_left_is_replaced(sql_lake: Path) -> None:
    async def left() -> bytes:
        workers = WorkerPool(sql_lake, ApiSettings(sql_processes=1))
        async with workers.started():
            endless = "select count(*) from range(1000000000000), range(100000)"
            query = asyncio.ensure_future(workers.execute(request_of(endless, 600)))
            await asyncio.sleep(0)
            while workers._waiting_count:
                await asyncio.sleep(0.01)
            (first,) = workers._alive
            query.cancel()
            await asyncio.gather(query, return_exceptions=True)
            _, body = await workers.execute(request_of("select 2 as x", 30))
            assert first.returncode is not None
        return body

    assert asyncio.run(left()) == b"x\n2\n"
