"""The last round of `watch` and the last check of `doctor`, for monitors.

`<lake>/.status/<name>.json` is a small file that each round and each check replaces.
"""

from datetime import UTC, datetime

from pydantic import AwareDatetime, ValidationError

from prunelake.lake.storage.location import Location, put
from prunelake.spec import FrozenValue

STATUS_FOLDER = ".status"


class Status(FrozenValue):
    """The end of a round or of a check; `problem_count` counts failed evaluations or files."""

    ended_at: AwareDatetime
    problem_count: int


def record_status(lake: Location, name: str, problem_count: int) -> None:
    """Record that a round or a check has ended now.

    Raises:
        OSError, LakeError: the lake cannot be written.
    """
    status = Status(ended_at=datetime.now(UTC), problem_count=problem_count)
    put(lake / STATUS_FOLDER / f"{name}.json", status.model_dump_json().encode())


def read_status(lake: Location, name: str) -> Status | None:
    """The last recorded status; None if there is none, or if it is being replaced."""
    try:
        return Status.model_validate_json((lake / STATUS_FOLDER / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
