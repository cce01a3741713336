"""A process that runs one SQL statement: `python -I -m prunelake.api.sandbox.worker MEMORY_BYTES`.

It starts in the lake's folder, loads everything, writes `READY_LINE`, answers one request from its
standard input, and ends. Once it has read the request it can open no file and no socket, write
nothing, and use no more than its memory and time. `worker_pool` starts and kills it.
"""

import ctypes
import math
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from prunelake.errors import LimitExceeded, NoSnapshot, PruneLakeError, QueryError
from prunelake.lake.sql.bound_query import error_message
from prunelake.schema.row_formats import RowFormat

from ..queries.snapshots.snapshot import LatestSnapshot, open_cursor
from .limited_query import run_query
from .messages import READY_LINE, SqlRequest, SqlResponseHeader


def main(memory_bytes: int) -> None:
    """Answer one request, or end if the server ends without sending a request."""
    answers = _reserve_stdout()
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    snapshots = LatestSnapshot(Path(), memory_bytes)
    _warm_up(snapshots)
    answers.write(READY_LINE)
    answers.flush()
    line = sys.stdin.buffer.readline()
    if line:
        header, body = answer_request(snapshots, SqlRequest.model_validate_json(line))
        answers.write(header.model_dump_json().encode() + b"\n")
        answers.write(body)
        answers.flush()


def answer_request(
    snapshots: LatestSnapshot, request: SqlRequest
) -> tuple[SqlResponseHeader, bytes]:
    """The answer of the latest snapshot; an error is in the header."""
    try:
        snapshot = snapshots.current()
        _limit_process(request)
        with open_cursor(snapshot.connection) as connection:
            return run_query(connection, snapshot.id, request)
    except (MemoryError, duckdb.OutOfMemoryException):
        error: PruneLakeError = LimitExceeded(
            f"the query needs more than its {request.memory_bytes:,} bytes of memory; ask "
            "for one run, fewer columns or an aggregate"
        )
    except duckdb.Error as duckdb_error:
        error = QueryError(f"{error_message(duckdb_error)} (GET /views lists views and columns)")
    except PruneLakeError as refusal:
        error = refusal
    except Exception:
        return SqlResponseHeader(error="Exception", message=traceback.format_exc()[-4000:]), b""
    return SqlResponseHeader(error=type(error).__name__, message=str(error)[:4000]), b""


def _reserve_stdout() -> BinaryIO:
    """The standard output, for answers only: from now on, output of libraries is discarded."""
    answers = os.fdopen(os.dup(1), "wb")
    discard = os.open(os.devnull, os.O_RDWR)
    os.dup2(discard, 1)
    return answers


def _warm_up(snapshots: LatestSnapshot) -> None:
    """Load everything that an answer needs: later no file can be opened, and a client waits."""
    with suppress(NoSnapshot):  # the answer to the request says so
        snapshots.current()
    query = "select now() as time, [{'a': 1.5::decimal(2, 1)}] as rows, map {'a': 1} as counts"
    limits: dict[str, Any] = {
        "max_rows": 1,
        "max_bytes": 10_000,
        "max_seconds": 1,
        "memory_bytes": 1,
    }
    with duckdb.connect() as connection:
        for format in RowFormat:
            run_query(connection, "", SqlRequest(query=query, format=format, **limits))


def _limit_process(request: SqlRequest) -> None:
    """Give up files and sockets, and limit memory and time as the request says."""
    os.dup2(1, 2)
    # The server gets the processor first, also if sessions share it (autogroup).
    os.nice(10)
    if os.getsid(0) == os.getpid():  # otherwise the session belongs to a user
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("10")
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    memory = data_pages * resource.getpagesize() + request.memory_bytes
    used_seconds = sum(os.times()[:2])
    # The server kills this process earlier; the limit covers a server that cannot.
    seconds = math.ceil(used_seconds + request.max_seconds) + 1
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]))
