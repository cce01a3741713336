"""Leases in an object store: waited for, renewed, taken over, and lost."""

from typing import Any

import pytest

from prunelake.errors import LakeError
from prunelake.lake.storage import leases, stores
from prunelake.lake.storage.locks import MAINTENANCE_LOCK, locked
from prunelake.lake.storage.objects import ObjectPath
from tests.support.object_stores.object_store import LeaseClock, new_lake, object_names

pytestmark = pytest.mark.usefixtures("object_store")


@pytest.fixture
def remote() -> ObjectPath:
    return new_lake()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeaseClock:
    return LeaseClock(monkeypatch)


def test_a_living_holder_is_waited_for(
    remote: ObjectPath, clock: LeaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    renewals = 0

    def renew_or_release(_: float) -> None:
        """Act as the holder, another process, while this process waits."""
        nonlocal renewals
        clock.advance(leases.TIME_TO_LIVE / 3)
        renewals += 1
        if clock.seconds < 3 * leases.TIME_TO_LIVE:
            (remote / MAINTENANCE_LOCK).put(f'{{"holder": "another", "beat": {renewals}}}'.encode())
        elif "released" not in order:
            (remote / MAINTENANCE_LOCK).remove()
            order.append("released")

    monkeypatch.setattr(leases, "_sleep", renew_or_release)
    (remote / MAINTENANCE_LOCK).put(b'{"holder": "another", "beat": 0}')
    with (
        pytest.raises(LakeError, match="is being maintained by another process"),
        locked(remote, MAINTENANCE_LOCK, wait=False),
    ):
        pass
    with locked(remote, MAINTENANCE_LOCK, on_wait=lambda: order.append("waiting")):
        order.append("locked")
    assert order == ["waiting", "released", "locked"]
    assert object_names(remote) == set()


def test_a_dead_holder_is_not_waited_for(remote: ObjectPath, clock: LeaseClock) -> None:
    (remote / MAINTENANCE_LOCK).put(b'{"holder": "somebody dead", "beat": 1}')
    with locked(remote, MAINTENANCE_LOCK, wait=False):
        assert clock.seconds > leases.TIME_TO_LIVE
    assert object_names(remote) == set()


@pytest.mark.usefixtures("clock")
def test_a_holder_renews_its_lease(remote: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TIME_TO_LIVE", 0.06)
    seen: set[bytes] = set()
    with locked(remote, MAINTENANCE_LOCK):
        while len(seen) < 3:
            seen.add((remote / MAINTENANCE_LOCK).read_bytes())
    assert object_names(remote) == set()


@pytest.mark.usefixtures("clock")
def test_a_renewal_whose_response_is_lost_keeps_the_lease(
    remote: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost, seen = stores.request, list[Any](), set[bytes]()

    def lose_one_response(*arguments: Any, **options: Any) -> Any:
        answer = send(*arguments, **options)
        if isinstance(options.get("mode"), dict) and not lost:
            lost.append(answer)
            raise LakeError("the store does not answer")
        return answer

    monkeypatch.setattr(leases, "TIME_TO_LIVE", 0.06)
    monkeypatch.setattr(stores, "request", lose_one_response)
    with locked(remote, MAINTENANCE_LOCK):
        while len(seen) < 4:
            seen.add((remote / MAINTENANCE_LOCK).read_bytes())
    assert lost
    assert object_names(remote) == set()


def test_a_process_that_lost_its_lease_leaves_the_lease_of_the_other(
    remote: ObjectPath, clock: LeaseClock
) -> None:
    taken_over = b'{"holder": "the process that took over", "beat": 1}'
    with locked(remote, MAINTENANCE_LOCK):
        (remote / MAINTENANCE_LOCK).put(taken_over)
        clock.advance(leases.TIME_TO_LIVE)
    assert (remote / MAINTENANCE_LOCK).read_bytes() == taken_over
