"""The flow `watch` with a faster clock: a day takes TWO_WEEKS_DAY_S seconds.

A deployment of tests/deploy/test_two_weeks.py runs it in place of `prunelake.flows.watch.watch`.
"""

import os
from datetime import timedelta

import prunelake.flows.watch
from prunelake.flows.watch import watch
from prunelake.watch import decision, evaluations

DAY = timedelta(seconds=float(os.environ["TWO_WEEKS_DAY_S"]))

decision.FIRST_RETRY_DELAY = DAY / 24
decision.MAX_RETRY_DELAY = DAY / 3
evaluations.QUOTA_WINDOW = DAY
# A sweep sends a heartbeat every 30 seconds of real time.
prunelake.flows.watch.FLOW_RUN_TIMEOUT = timedelta(seconds=90)

__all__ = ["watch"]
