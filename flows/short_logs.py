"""Errors of PruneLake in Prefect's logs: a line instead of several pages of calls.

The message of such an error names its cause and the remedy. Prefect logs each error three times
with its calls: for the task, for the flow, and for the process.
"""

import logging

from prunelake.errors import PruneLakeError

LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")


def leave_out_calls() -> None:
    """Leave the calls of a `PruneLakeError` out of the logs; errors of other kinds keep theirs."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_calls)


def _without_calls(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PruneLakeError) and record.levelno > logging.DEBUG:
        record.exc_info = None
    return True
