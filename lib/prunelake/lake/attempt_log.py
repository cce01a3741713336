"""The ledger of attempts: what `watch` has started and what failed, until the lake has the run.

`<lake>/.watch/<key>.json`, one small file for each evaluation that is missing and was tried; none
once its run is in the lake. A file is only ever put in place of the very one that its writer has
read, so of two watchers one wins, and the other sees it. An object store does that by itself.
"""

import os
import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.locks import locked
from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location, list_folder, prefetch_all
from prunelake.spec import FrozenValue

ATTEMPTS_FOLDER = ".watch"
ATTEMPTS_LOCK = ".lock"


class Attempt(FrozenValue):
    """One evaluation that was tried: the last attempt, and how it went.

    `same` says that the sweep found its very run in the lake, there under a spec spelled otherwise.
    `nonce` is drawn anew by each attempt: a deleted run may be computed again.
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
    retry_at: AwareDatetime | None = None

    @property
    def idempotency_key(self) -> str:
        """What keeps a server from starting this attempt twice."""
        return f"{self.key}-{self.number}-{self.nonce}"


def read_attempts(lake: Location) -> dict[str, Attempt]:
    """The attempts by key; none where there is no lake.

    Raises:
        CorruptFile: a file that is no attempt.
    """
    found = {}
    for path in prefetch_all(list_folder(lake / ATTEMPTS_FOLDER, "*.json")):
        attempt = _read_attempt(path)
        if attempt is not None:
            found[attempt.key] = attempt
    return found


def compare_and_swap(lake: Location, old: Attempt | None, new: Attempt | None) -> bool:
    """Put `new` where `old` is, None being no file; False where another has been there first.

    Raises:
        LakeError: a lake that cannot be written.
        CorruptFile: a file that is no attempt.
    """
    given = new or old
    assert given is not None  # nothing for nothing is no change
    path = _attempt_file(lake, given.key)
    if isinstance(path, ObjectPath):
        return _compare_and_swap_object(path, old, new)
    try:
        with locked(lake / ATTEMPTS_FOLDER, ATTEMPTS_LOCK):
            if _read_attempt(path) != old:
                return False
            if new is None:
                path.unlink()
                return True
            temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
            try:
                temporary.write_bytes(_encode(new))
                if old is None:
                    # Exclusive also where a lock of another machine is not seen.
                    path.hardlink_to(temporary)
                else:
                    temporary.replace(path)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            return True
    except OSError as error:
        raise LakeError(
            f"{path} cannot be written ({one_line(error)}); make room or fix the permissions"
        ) from error


def last_heartbeat(lake: Location, attempt: Attempt) -> datetime:
    """When its process has last shown that it works on it; `started_at` at the least."""
    try:
        touched = datetime.fromtimestamp(_attempt_file(lake, attempt.key).stat().st_mtime, UTC)
    except FileNotFoundError:
        return attempt.started_at
    return max(touched, attempt.started_at)


def send_heartbeat(lake: Location, attempt: Attempt) -> None:
    """Say that this process still works on it."""
    path = _attempt_file(lake, attempt.key)
    if isinstance(path, ObjectPath):
        _compare_and_swap_object(path, attempt, attempt)
    else:
        os.utime(path)


def _compare_and_swap_object(path: ObjectPath, old: Attempt | None, new: Attempt | None) -> bool:
    now = path.prefetch()
    if _read_attempt(now) != old:
        return False
    if new is not None:
        content = _encode(new)
        return bool(path.replace(content, now.etag) if now.etag else path.create(content))
    return now.etag is not None and path.remove(now.etag)


def _encode(attempt: Attempt) -> bytes:
    return attempt.model_dump_json(indent=1).encode()


def _attempt_file(lake: Location, key: str) -> Location:
    return lake / ATTEMPTS_FOLDER / f"{key}.json"


def _read_attempt(path: Location) -> Attempt | None:
    try:
        return Attempt.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CorruptFile(
            f"{path} is no attempt of `prunelake watch` ({one_line(error)}); delete it, and the "
            "evaluation is tried anew"
        ) from error
