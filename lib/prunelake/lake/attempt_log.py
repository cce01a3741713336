"""The attempts of `watch`: evaluations that it has started, and evaluations that failed.

`<lake>/.watch/<key>.json` is a small file for each evaluation that was tried and whose run is not
in the lake yet. A writer replaces a file only if its content is still the content that the writer
has read. So the first of two watchers wins, and the other notices. An object store checks this
condition itself.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.files.paths import ATTEMPTS_FOLDER
from prunelake.lake.storage.location import Location, list_folder, written_at
from prunelake.lake.storage.reading import prefetch_all
from prunelake.lake.storage.swap import swap
from prunelake.spec import FrozenValue


class Attempt(FrozenValue):
    """The last attempt at one evaluation, and its outcome.

    The state `same` means that the sweep found its run in the lake: a spec with another spelling
    had put it there. Each attempt has a new random `nonce`, so that a deleted run can be computed
    again. `machine_failures` counts the failures of machines since the last failure of another
    kind.
    """

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    watchlist: str
    entry: str
    model: str
    revision: str
    task: str
    strategy: str
    state: Literal["running", "failed", "same"]
    number: Annotated[int, Field(ge=1)]
    nonce: str
    started_at: AwareDatetime
    flow_run: str | None = None
    reason: str | None = None
    machine_failures: Annotated[int, Field(ge=0)] = 0
    retry_at: AwareDatetime | None = None

    @property
    def idempotency_key(self) -> str:
        """The key with which a server starts this attempt only once."""
        return f"{self.key}-{self.number}-{self.nonce}"

    @property
    def failure(self) -> str:
        """The failure in words."""
        count = f"machine failure {self.machine_failures}: " if self.machine_failures else ""
        return f"{count}{self.reason}"


def read_attempts(lake: Location) -> dict[str, Attempt]:
    """The attempts by key; none if there is no lake.

    Raises:
        CorruptFile: a file that holds no attempt.
    """
    attempts = {}
    for path in prefetch_all(list_folder(lake / ATTEMPTS_FOLDER, "*.json")):
        attempt = _decode(path, _content(path))
        if attempt is not None:
            attempts[attempt.key] = attempt
    return attempts


def compare_and_swap(lake: Location, old: Attempt | None, new: Attempt | None) -> bool:
    """Replace `old` by `new`, where None means no file; False if another process was first.

    Raises:
        LakeError: a lake that cannot be written.
        CorruptFile: a file that holds no attempt.
    """
    attempt = new or old
    assert attempt is not None, "either old or new is an attempt"
    path = _attempt_file(lake, attempt.key)
    try:
        content = _content(path)
        if _decode(path, content) != old:
            return False
        return swap(path, content, None if new is None else _encode(new))
    except OSError as error:
        raise LakeError(
            f"{path} cannot be written ({one_line(error)}); make room or fix the permissions"
        ) from error


def last_heartbeat(lake: Location, attempt: Attempt) -> datetime:
    """The time of the last heartbeat of an attempt; at least `started_at`."""
    try:
        beat_at = datetime.fromtimestamp(written_at(_attempt_file(lake, attempt.key)), UTC)
    except FileNotFoundError:
        return attempt.started_at
    return max(beat_at, attempt.started_at)


def send_heartbeat(lake: Location, attempt: Attempt) -> None:
    """Record that this process still works on an attempt."""
    compare_and_swap(lake, attempt, attempt)


def _encode(attempt: Attempt) -> bytes:
    return attempt.model_dump_json(indent=1).encode()


def _attempt_file(lake: Location, key: str) -> Location:
    return lake / ATTEMPTS_FOLDER / f"{key}.json"


def _content(path: Location) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _decode(path: Location, content: bytes | None) -> Attempt | None:
    if content is None:
        return None
    try:
        return Attempt.model_validate_json(content)
    except ValidationError as error:
        raise CorruptFile(
            f"{path} holds no attempt of `prunelake watch` ({one_line(error)}); delete it, and the "
            "evaluation is tried again"
        ) from error
