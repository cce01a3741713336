"""Small JSON files that contain the hash of their own content: manifests of runs and of shards."""

import json
from typing import Any

from prunelake.errors import CorruptFile, one_line
from prunelake.frozen_value import FrozenValue
from prunelake.identity import content_hash
from prunelake.lake.storage.location import Location


def encode(value: FrozenValue) -> bytes:
    """The bytes of a file with this value."""
    content = value.model_dump(mode="json")
    return json.dumps({"sha256": content_hash(content), **content}, indent=1).encode()


def decode(path: Location) -> dict[str, Any]:
    """The fields of the value in a file.

    Raises:
        CorruptFile: the file is not as it was written; the message does not name it.
        FileNotFoundError: no such file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        digest = content.pop("sha256")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFile(f"it is not JSON with a hash ({one_line(error)})") from error
    if digest != content_hash(content):
        raise CorruptFile("its content has changed since it was written (SHA-256 differs)")
    return content
