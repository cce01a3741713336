"""An object store on loopback: the S3 server of moto in a process that ends with this one."""

import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from prunelake.errors import LakeError
from prunelake.lake.storage import leases, stores
from prunelake.lake.storage.objects import ObjectPath
from tests.support.lakes.interruptions import Interrupted

BUCKET = "lakes"

# With each request, moto searches its folder for the services that it has: a quarter of its work.
SERVER = """
import sys
from moto import backends
backends.list_of_moto_modules = lambda: ["s3"]
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler
WSGIRequestHandler.disable_nagle_algorithm = True
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def running_store() -> Iterator[str]:
    """Run a store with one bucket, named in the environment of this process and its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with pytest.MonkeyPatch.context() as patch, process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        for name, value in environment(url).items():
            patch.setenv(name, value)
        stores.store_for_process.cache_clear()
        new_bucket = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(new_bucket).close()
        try:
            yield url
        finally:
            stores.store_for_process.cache_clear()
            process.stdin.close()


def environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def new_lake() -> ObjectPath:
    """The path of a new, empty lake."""
    return ObjectPath("s3", BUCKET, f"team/{uuid.uuid4().hex[:8]}/lake")


def object_names(lake: ObjectPath) -> set[str]:
    """The names of all objects of a lake, relative to it."""
    return {path.key.removeprefix(f"{lake.key}/") for path in lake.iter_objects()}


@contextmanager
def before_every_request(do: Callable[[str, dict[str, Any]], None]) -> Iterator[None]:
    """Call `do` with the operation and its options before each request."""
    request = stores.request

    def call(scheme: str, bucket: str, key: str, operation: str, **options: Any) -> Any:
        do(operation, {"key": key, **options})
        return request(scheme, bucket, key, operation, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "request", call)
        yield


class LeaseClock:
    """The clock of all leases of this process: it stands still unless a process waits for a lease.

    So no lease expires on a busy machine, and no test waits for one to expire. Waiting needs a
    tenth of the usual requests.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        patch.setattr(leases, "_clock_seconds", lambda: self.seconds)
        patch.setattr(leases, "_sleep", lambda seconds: self.advance(10 * seconds))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


WRITE_OPERATIONS = ("put", "delete")


class WriteCounter:
    """Counts the writing requests of the main thread, and calls `at` before one of them.

    Requests of the threads that renew leases come at unknown times, and are not counted.
    """

    def __init__(self, step: int | None = None, at: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._step = step
        self._at = at

    def __call__(self, operation: str, _: object) -> None:
        if operation in WRITE_OPERATIONS and threading.current_thread() is threading.main_thread():
            self.count += 1
            if self.count == self._step:
                self._at()


class KillBeforeWrite(WriteCounter):
    """Ends all work of this process with the store before a request."""

    def __call__(self, operation: str, parameters: object) -> None:
        super().__call__(operation, parameters)
        assert self._step is not None
        if self.count >= self._step:
            is_main = threading.current_thread() is threading.main_thread()
            raise Interrupted if is_main else LakeError("dead")
