"""A pool of processes that each run one SQL statement, and are killed when its time is up."""

import asyncio
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prunelake.errors import LimitExceeded, NoSnapshot, PruneLakeError, QueryError, ServerBusy

from ..queries.snapshots.snapshot import time_limit_exceeded
from ..settings import ApiSettings
from . import worker
from .messages import READY_LINE, SqlRequest, SqlResponseHeader

log = logging.getLogger(__name__)

# The name depends on the package in which `api` is installed.
WORKER_MODULE = worker.__name__

WORKER_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    # Other memory pools reserve gigabytes, which count towards the limit of a process.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""The whole environment of a worker: the server's own environment may hold secrets."""

WORKER_ERRORS: dict[str, type[PruneLakeError]] = {
    kind.__name__: kind for kind in (LimitExceeded, NoSnapshot, QueryError)
}


class WorkerPool:
    """At most `sql_processes` processes; idle processes are loaded and wait for a query."""

    def __init__(self, lake: Path, settings: ApiSettings) -> None:
        self.lake = lake
        self.settings = settings
        self.is_enabled = settings.sql and sys.platform == "linux"  # the workers use its limits
        self._idle: asyncio.Queue[Process] = asyncio.Queue()
        self._waiting_count = 0
        self._alive: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Run the workers within the block; after it, all have ended."""
        self._idle = asyncio.Queue()  # a queue belongs to one event loop
        for _ in range(self.settings.sql_processes if self.is_enabled else 0):
            self._in_background(self._start())
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*map(self._kill_worker, list(self._alive)))

    async def execute(self, request: SqlRequest) -> tuple[SqlResponseHeader, bytes]:
        """The answer of a worker within `max_seconds`, after the wait for an idle worker.

        Raises:
            ServerBusy: `sql_queue` queries wait already, or no worker was idle in time.
            LimitExceeded: the query was stopped, or met a limit.
            QueryError, NoSnapshot: as `worker.answer_request`.
        """
        process = await self._wait_for_worker()
        try:
            async with asyncio.timeout(request.max_seconds):
                return await _send_request(process, request)
        except TimeoutError as error:
            raise time_limit_exceeded(request.max_seconds) from error
        finally:
            self._in_background(self._replace(process))

    async def _wait_for_worker(self) -> Process:
        if self._idle.empty() and self._waiting_count >= self.settings.sql_queue:
            raise ServerBusy(f"{self._waiting_count} queries wait already; ask again later")
        self._waiting_count += 1
        try:
            async with asyncio.timeout(self.settings.sql_queue_seconds):
                return await self._take_idle_worker()
        except TimeoutError as error:
            raise ServerBusy(
                f"within {self.settings.sql_queue_seconds:g} s none of the "
                f"{self.settings.sql_processes} processes that run queries became free; ask again"
            ) from error
        finally:
            self._waiting_count -= 1

    async def _take_idle_worker(self) -> Process:
        while (process := await self._idle.get()).returncode is not None:
            self._in_background(self._replace(process))
        return process

    async def _start(self) -> None:
        # A server may start before its lake exists.
        while not (self.lake.is_dir() and await self._has_started()):
            await asyncio.sleep(1)

    async def _has_started(self) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", WORKER_MODULE),
                str(self.settings.sql_memory_bytes),
                stdin=PIPE,
                stdout=PIPE,
                cwd=self.lake,
                env=WORKER_ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            log.error("a process for SQL could not be started: %s", error)
            return False
        self._alive.add(process)
        if await _stdout(process).readline() == READY_LINE:
            self._idle.put_nowait(process)
            return True
        await self._kill_worker(process)
        log.error("a process for SQL ended at its start with status %s", process.returncode)
        return False

    async def _replace(self, process: Process) -> None:
        await self._kill_worker(process)
        await self._start()

    async def _kill_worker(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        self._alive.discard(process)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _send_request(process: Process, request: SqlRequest) -> tuple[SqlResponseHeader, bytes]:
    assert process.stdin is not None
    output = _stdout(process)
    try:
        process.stdin.write(request.model_dump_json().encode() + b"\n")
        await process.stdin.drain()
        head = SqlResponseHeader.model_validate_json(await output.readuntil(b"\n"))
        body = await output.readexactly(min(head.size, request.max_bytes))
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise _exit_error(await process.wait(), request) from error
    if head.error in WORKER_ERRORS:
        raise WORKER_ERRORS[head.error](head.message)
    if head.error:
        raise RuntimeError(f"a process for SQL failed: {head.message}")
    return head, body


def _exit_error(status: int, request: SqlRequest) -> Exception:
    """The error for a worker that ended without an answer."""
    if status == -signal.SIGXCPU:
        return time_limit_exceeded(request.max_seconds)
    if status in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
        return LimitExceeded(
            f"the query ended its process ({signal.Signals(-status).name}): it needs more than its "
            f"{request.memory_bytes:,} bytes of memory, or is nested too deeply; split it, or ask "
            "for less"
        )
    return RuntimeError(f"a process for SQL ended with status {status}")


def _stdout(process: Process) -> asyncio.StreamReader:
    assert process.stdout is not None
    return process.stdout
