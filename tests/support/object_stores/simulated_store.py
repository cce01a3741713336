"""An object store in memory, with a clock of its own, for processes that take turns.

Each process is a thread. It waits for its turn before each request, so a schedule decides in which
order the requests of all processes reach the store, and which process dies or sleeps in between.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prunelake.lake.storage import locks, reading, stores
from prunelake.lake.storage.objects import ObjectPath, PreconditionFailed


class Died(BaseException):
    """Ends a process at a request; no handler of the library catches it."""


class StoredObject(NamedTuple):
    content: bytes
    tag: str
    written_at: float
    attributes: dict[str, str]


class SimulatedStore:
    """The objects of one lake. With `list_lag`, lists are those of so many requests ago."""

    def __init__(self, list_lag: int = 0) -> None:
        self.seconds = 0.0
        self.objects: dict[str, StoredObject] = {}
        self._writes = 0
        self._lists = [self.objects.copy()] * (list_lag + 1)

    def request(self, _: str, __: str, key: str, operation: str, **options: Any) -> Any:
        """Stands for `stores.request`."""
        self._lists = [*self._lists[1:], self.objects.copy()]
        if operation == "put":
            return self._put(key, **options)
        if operation == "list":
            return self._list(f"{key}/")
        if operation == "list all":
            return self._list(f"{key}/", True)["objects"]
        if key not in self.objects:
            raise FileNotFoundError(key)
        if operation == "delete":
            del self.objects[key]
            return None
        assert operation == "get", operation
        found = self.objects[key]
        if options.get("if_match", found.tag) != found.tag:
            raise PreconditionFailed
        return found.content, self._meta(key, found), found.attributes

    def _put(
        self, key: str, content: bytes | Path, mode: Any = None, attributes: Any = None
    ) -> dict[str, str]:
        present = self.objects.get(key)
        if mode == "create" and present is not None:
            raise PreconditionFailed
        if isinstance(mode, dict) and (present is None or present.tag != mode["e_tag"]):
            raise PreconditionFailed
        content = content.read_bytes() if isinstance(content, Path) else content
        self._writes += 1
        digest = hashlib.sha256(content).hexdigest()[:8]
        tag = f'"{id(self)}-{self._writes}-{digest}"'
        self.objects[key] = StoredObject(content, tag, self.seconds, dict(attributes or {}))
        return {"e_tag": tag}

    def _list(self, prefix: str, is_deep: bool = False) -> dict[str, Any]:
        objects = {key: each for key, each in self._lists[0].items() if key.startswith(prefix)}
        here = {key: each for key, each in objects.items() if "/" not in key[len(prefix) :]}
        folders = {
            prefix + key[len(prefix) :].split("/")[0] for key in objects.keys() - here.keys()
        }
        chosen = objects if is_deep else here
        return {
            "common_prefixes": sorted(folders),
            "objects": [self._meta(key, each) for key, each in chosen.items()],
        }

    def _meta(self, key: str, each: StoredObject) -> dict[str, Any]:
        written = datetime.fromtimestamp(each.written_at, UTC)
        return {
            "path": key,
            "e_tag": each.tag,
            "size": len(each.content),
            "last_modified": written,
        }


class Process:
    """A thread that sends a request to the store whenever it gets its turn."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.is_over = False
        self.is_dead = False
        self.result: object = None
        self.error: BaseException | None = None
        self._may_go, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Let the process continue until its next request, or its end."""
        if not self.is_over:
            self._may_go.release()
            self._has_stopped.acquire()

    def wait_for_turn(self) -> None:
        """Called by the process before each request."""
        if not self.is_dead:
            self._has_stopped.release()
            self._may_go.acquire()
        if self.is_dead:
            raise Died

    def _run(self, work: Callable[[], object]) -> None:
        self._may_go.acquire()
        try:
            if not self.is_dead:
                self.result = work()
        except BaseException as error:  # the test looks at it
            self.error = error
        self.is_over = True
        self._has_stopped.release()


class _SerialPool:
    """Stands for a pool of threads: a process sends one request at a time."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> "_SerialPool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


@contextmanager
def simulated_processes(
    store: SimulatedStore, works: dict[str, Callable[[], object]]
) -> Iterator[Sequence[Process]]:
    """The processes of the works, each before its first step. No lock holds any of them back."""
    processes: dict[str, Process] = {}

    def request(*arguments: Any, **options: Any) -> Any:
        process = processes.get(threading.current_thread().name)
        if process is not None:
            process.wait_for_turn()
        return store.request(*arguments, **options)

    @contextmanager
    def expired_lease(*_: object) -> Iterator[bool]:
        yield True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "request", request)
        patch.setattr(reading, "ThreadPoolExecutor", _SerialPool)
        patch.setattr(locks, "hold_lease", expired_lease)
        processes |= {name: Process(name, work) for name, work in works.items()}
        try:
            yield list(processes.values())
        finally:
            for process in processes.values():
                process.is_dead = True
                while not process.is_over:
                    process.step()


def simulated_lake() -> ObjectPath:
    """The path of the lake in a simulated store."""
    return ObjectPath("s3", "simulated", "lake")
