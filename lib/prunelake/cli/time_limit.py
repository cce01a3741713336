"""End a query that takes too long."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import duckdb
import typer

from prunelake.errors import QueryError
from prunelake.lake.sql.bound_query import Connection

GRACE_S = 5.0
"""Some functions of DuckDB cannot be interrupted: after this extra time the process ends."""


@contextmanager
def time_limit(connection: Connection, seconds: float) -> Iterator[None]:
    """Interrupt a connection's query that is not finished after `seconds`.

    Raises:
        QueryError: the query took too long.
    """
    message = f"the query took more than {seconds:g} s; ask for less, or raise --seconds"
    timers = [
        Timer(seconds, connection.interrupt),
        Timer(seconds + GRACE_S, _end_process, [message]),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    except QueryError as error:
        if isinstance(error.__cause__, duckdb.InterruptException):
            raise QueryError(message) from error
        raise
    finally:
        for timer in timers:
            timer.cancel()


def _end_process(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    os._exit(1)
