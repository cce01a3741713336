"""The logs of failed flows."""

import logging

import pytest

from prunelake.errors import ModelNotFound
from prunelake.flows.short_logs import LOGGERS, leave_out_calls


@pytest.mark.parametrize("name", LOGGERS)
def test_a_log_has_the_calls_of_unknown_errors_only(name: str) -> None:
    leave_out_calls()
    logger = logging.getLogger(name)
    for error, keeps_calls in ((ModelNotFound("no model there"), False), (OSError(), True)):
        record = logging.LogRecord(
            name, logging.ERROR, "", 0, "it failed", (), (type(error), error, None)
        )
        assert logger.filter(record)
        assert (record.exc_info is not None) == keeps_calls
