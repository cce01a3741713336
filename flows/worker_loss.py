"""End a flow run when its worker has died: nothing computes on for a worker that is gone."""

import os
import select
import signal
import stat
import threading
import time

INTERVAL_MS = 500
GRACE_S = 3.0
"""The time in which the flow run reports to the server. Then its process ends at once."""


def end_with_worker() -> None:
    """Let a thread end this process when its parent has died.

    A worker that ends in order stops its flow runs itself. A killed worker cannot.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(worker: int) -> None:
    output = select.poll()
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        # The worker may have died before this thread knew it as the parent. Nobody reads the
        # pipe to it then. A poll without events reports errors only.
        output.register(1, 0)
    while not output.poll(INTERVAL_MS) and os.getppid() == worker:
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # Prefect reports the flow run as crashed
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)
