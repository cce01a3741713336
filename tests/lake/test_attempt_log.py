"""The log of attempts: a write succeeds only if its writer has read the current file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import CorruptFile
from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt
from tests.support.object_stores.object_store import (
    WriteCounter,
    before_every_request,
    new_lake,
    object_names,
)


def attempt(**changes: Any) -> Attempt:
    known: dict[str, Any] = {"key": "0" * 16, "watchlist": "w", "entry": "e", "model": "m"}
    known |= {"revision": "r", "task": "t", "strategy": "cosine", "state": "running", "number": 1}
    known |= {"nonce": "n", "started_at": datetime.now(UTC)}
    return Attempt.model_validate(known | changes)


def test_one_of_two_writers_of_an_attempt_wins(tmp_path: Path) -> None:
    first = attempt(nonce="1", started_at=datetime.now(UTC) - timedelta(days=3))
    second = first.model_copy(update={"nonce": "2"})
    assert attempt_log.compare_and_swap(tmp_path, None, first)
    assert not attempt_log.compare_and_swap(tmp_path, None, second)
    assert not attempt_log.compare_and_swap(tmp_path, second, None)
    assert attempt_log.compare_and_swap(tmp_path, first, second)
    assert attempt_log.read_attempts(tmp_path) == {first.key: second}
    assert not list((tmp_path / ".watch").glob("*.tmp"))
    assert attempt_log.compare_and_swap(tmp_path, second, None)
    (tmp_path / ".watch" / f"{first.key}.json").write_text("no attempt")
    with pytest.raises(CorruptFile, match="delete it"):
        attempt_log.read_attempts(tmp_path)


@pytest.mark.usefixtures("object_store")
def test_only_one_of_two_watchers_starts_an_attempt_in_a_store() -> None:
    """Each watcher reads the attempts before the other writes."""
    lake = new_lake()
    first, second, third = attempt(nonce="1"), attempt(nonce="2"), attempt(nonce="3")
    for old, mine, theirs in ((None, first, second), (second, first, third)):

        def write_first(old: Attempt | None = old, theirs: Attempt = theirs) -> None:
            assert attempt_log.compare_and_swap(lake, old, theirs)

        with before_every_request(WriteCounter(1, write_first)):
            assert not attempt_log.compare_and_swap(lake, old, mine)
        assert attempt_log.read_attempts(lake) == {theirs.key: theirs}
    assert attempt_log.compare_and_swap(lake, third, second)
    assert not attempt_log.compare_and_swap(lake, third, None)
    before = attempt_log.last_heartbeat(lake, second)
    while attempt_log.last_heartbeat(lake, second) <= before:  # the store counts whole seconds
        attempt_log.send_heartbeat(lake, second)
    attempt_log.send_heartbeat(lake, third)  # it was replaced meanwhile
    assert attempt_log.read_attempts(lake) == {second.key: second}
    assert attempt_log.compare_and_swap(lake, second, None)
    assert attempt_log.read_attempts(lake) == {}
    assert object_names(lake) == set()
