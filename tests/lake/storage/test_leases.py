"""Leases in an object store: waited for, renewed, taken over, and lost."""

import pytest

from prunelake.errors import LakeError
from prunelake.lake.storage import leases, location
from prunelake.lake.storage.locks import WRITE_LOCK, locked
from prunelake.lake.storage.objects import ObjectPath
from tests.support.object_store import LeaseClock, new_lake, object_names

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
            (remote / WRITE_LOCK).put(f'{{"holder": "another", "beat": {renewals}}}'.encode())
        elif "released" not in order:
            (remote / WRITE_LOCK).remove()
            order.append("released")

    monkeypatch.setattr(leases, "_sleep", renew_or_release)
    (remote / WRITE_LOCK).put(b'{"holder": "another", "beat": 0}')
    with (
        pytest.raises(LakeError, match="is being written by another process"),
        locked(remote, wait=False),
    ):
        pass
    with locked(remote, on_wait=lambda: order.append("waiting")):
        order.append("locked")
    assert order == ["waiting", "released", "locked"]
    assert object_names(remote) == set()


def test_a_dead_holder_is_not_waited_for(remote: ObjectPath, clock: LeaseClock) -> None:
    (remote / WRITE_LOCK).put(b'{"holder": "somebody dead", "beat": 1}')
    with locked(remote, wait=False):
        assert clock.seconds > leases.TIME_TO_LIVE
    assert object_names(remote) == set()


@pytest.mark.usefixtures("clock")
def test_a_holder_renews_its_lease(remote: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TIME_TO_LIVE", 0.06)
    seen: set[bytes] = set()
    with locked(remote):
        while len(seen) < 3:
            seen.add((remote / WRITE_LOCK).read_bytes())
    assert object_names(remote) == set()


def test_a_process_that_lost_its_lease_deletes_nothing_and_fails(
    remote: ObjectPath, clock: LeaseClock
) -> None:
    kept = remote / "layers" / "a.parquet"
    kept.put(b"rows")
    other = new_lake() / "b.parquet"
    other.put(b"of another lake")

    def work() -> None:
        with locked(remote):
            (remote / WRITE_LOCK).put(b'{"holder": "the process that took over", "beat": 1}')
            clock.advance(leases.TIME_TO_LIVE)
            with pytest.raises(LakeError, match="was not renewed"):
                location.delete(kept)
            location.delete(other)

    with pytest.raises(LakeError, match="another process may write now"):
        work()
    assert not other.is_file()
    assert kept.is_file()
    assert b"the process that took over" in (remote / WRITE_LOCK).read_bytes()
