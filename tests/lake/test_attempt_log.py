"""The log of attempts: a write succeeds only if the file is the one that its writer has read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prunelake.errors import CorruptFile
from prunelake.lake import attempt_log
from prunelake.lake.attempt_log import Attempt

PAST = datetime.now(UTC) - timedelta(days=3)


def test_one_of_two_writers_of_an_attempt_wins(tmp_path: Path) -> None:
    first = Attempt(
        key="0" * 16,
        watchlist="w",
        entry="e",
        model="m",
        revision="r",
        task="t",
        strategy="cosine",
        state="running",
        number=1,
        nonce="1",
        started_at=PAST,
    )
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
