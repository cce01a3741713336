"""Objects in a store that speaks S3, under paths that are used as those of pathlib are.

The store and its keys come from the environment that every AWS tool reads. Each call is answered
whole or not at all, and sees what every earlier call has written.
"""

import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from prunelake.errors import LakeError, one_line

SCHEME = "s3://"

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 30, 4  # of one request
AT_ONCE = 32  # requests

CONFLICTS = 20
"""So often a put is tried again that met another one to the same object."""

MISSING = {"NoSuchKey", "404"}


class Changed(Exception):  # nothing is wrong: somebody was first
    """An object is not, or no more, as the request requires."""


class Status(NamedTuple):
    """What `stat` says, by the names that pathlib's has."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The name of an object, or of the folder of all objects whose names go on after it.

    With `content` it is what the object held when it was fetched, and is read from that; with
    `etag` and `status` it was found in a listing.
    """

    bucket: str
    key: str
    content: bytes | None = field(default=None, compare=False, repr=False)
    etag: str | None = field(default=None, compare=False, repr=False)
    status: Status | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.removesuffix(self.suffix)

    @property
    def suffix(self) -> str:
        """The name from its last dot on, if that is neither its first letter nor its last."""
        before, dot, after = self.name.rpartition(".")
        return dot + after if before and after else ""

    @property
    def parent(self) -> "ObjectPath":
        """The folder it is in."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "ObjectPath":
        """Another one in the same folder."""
        return self.parent / name

    def within(self, folder: "ObjectPath") -> bool:
        """Whether it is somewhere in a folder."""
        begin = f"{folder.key}/" if folder.key else ""
        return self.bucket == folder.bucket and self.key.startswith(begin)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """The objects and folders in this folder whose names match, in no deeper one."""
        for found in _listed(self, "/"):
            if fnmatchcase(found.name, pattern):
                yield found

    def objects(self) -> Iterator["ObjectPath"]:
        """All objects in this folder, also in deeper ones."""
        return _listed(self, "")

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            if self.content is None:
                _head(self)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is any object in such a folder."""
        prefix = f"{self.key}/" if self.key else ""
        return bool(_call(self, "list_objects_v2", Prefix=prefix, MaxKeys=1)["KeyCount"])

    def exists(self) -> bool:
        """Whether there is such an object or folder."""
        return self.is_file() or self.is_dir()

    def stat(self) -> Status:
        """Size in bytes and, by the store's clock, when it was written.

        Raises:
            FileNotFoundError: no such object.
        """
        if self.status is not None:
            return self.status
        head = _head(self)
        written: datetime = head["LastModified"]
        return Status(head["ContentLength"], written.timestamp())

    def metadata(self) -> tuple[str, dict[str, str]]:
        """The tag of what it holds, and what was put beside it.

        Raises:
            FileNotFoundError: no such object.
        """
        head = _head(self)
        return head["ETag"], head["Metadata"]

    def read_bytes(self) -> bytes:
        """What it holds.

        Raises:
            FileNotFoundError: no such object.
        """
        return self.content if self.content is not None else self.read_tagged()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """What it holds, as text."""
        return self.read_bytes().decode(encoding)

    def read_tagged(
        self, first: int = 0, count: int | None = None, **condition: str
    ) -> tuple[bytes, str, int]:
        """What it holds, or `count` bytes of that, its tag, and its whole size.

        Raises:
            FileNotFoundError: no such object.
            Changed: `IfMatch` is not its tag.
        """
        from botocore.exceptions import BotoCoreError

        part = {} if count is None else {"Range": f"bytes={first}-{first + count - 1}"}
        for attempt in range(ATTEMPTS):
            found = _call(self, "get_object", Key=self.key, **part, **condition)
            try:
                content = found["Body"].read()
            except BotoCoreError as error:  # while it was sent
                if attempt + 1 == ATTEMPTS:
                    raise _silent(self, error) from _cause(error)
                continue
            size = found.get("ContentRange", "").rpartition("/")[2] or len(content)
            return content, found["ETag"], int(size)
        raise AssertionError

    def fetched(self) -> "ObjectPath":
        """The same, with what it holds now; without, if there is no such object."""
        try:
            content, etag, _ = self.read_tagged()
        except FileNotFoundError:
            return self
        return replace(self, content=content, etag=etag)

    def put(self, content: bytes) -> None:
        """Make it hold this, whatever it held."""
        _call(self, "put_object", Key=self.key, Body=content)

    def create(self, content: bytes) -> str | None:
        """Make it, and return its tag; None, with nothing changed, if there is one already."""
        return self._put(content, IfNoneMatch="*")

    def replace(self, content: bytes, etag: str) -> str | None:
        """Make it hold this if it still holds what has this tag; the new tag, or None."""
        return self._put(content, IfMatch=etag)

    def _put(self, content: bytes, **condition: str) -> str | None:
        writer = uuid.uuid4().hex
        sent = {"Key": self.key, "Body": content, "Metadata": {"writer": writer}, **condition}
        try:
            etag: str = _call(self, "put_object", **sent)["ETag"]
        except FileNotFoundError:
            return None
        except Changed:
            # A request whose answer was lost is sent again, and then finds what it has put itself.
            try:
                etag, beside = self.metadata()
            except FileNotFoundError:
                return None
            return etag if beside.get("writer") == writer else None
        return etag

    def remove(self, etag: str | None = None) -> bool:
        """Remove it; with `etag` only if it still holds what has this tag, else False."""
        if etag is None:
            _call(self, "delete_object", Key=self.key)
            return True
        try:
            # Not every store looks at the condition of a deletion.
            if self.metadata()[0] != etag:
                return False
            _call(self, "delete_object", Key=self.key, IfMatch=etag)
        except (FileNotFoundError, Changed):
            return False
        return True

    def copy_from(self, other: "ObjectPath") -> None:
        """Make it hold what another object holds; the store copies it.

        Raises:
            FileNotFoundError: no such object.
        """
        _whole(self, "copy", {"Bucket": other.bucket, "Key": other.key}, self.bucket, self.key)

    def upload(self, file: str, beside: dict[str, str]) -> None:
        """Make it hold what a file of this machine holds, of any size."""
        _whole(self, "upload_file", file, self.bucket, self.key, ExtraArgs={"Metadata": beside})

    def download(self, file: str) -> None:
        """Write what it holds into a file of this machine.

        Raises:
            FileNotFoundError: no such object.
        """
        _whole(self, "download_file", self.bucket, self.key, file)


def object_path(url: str) -> ObjectPath:
    """The path of `s3://bucket/prefix`.

    Raises:
        LakeError: no bucket.
    """
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise LakeError(f"{url!r} names no bucket; write s3://BUCKET/PREFIX")
    return ObjectPath(bucket, "/".join(part for part in key.split("/") if part))


def fetched(paths: Iterable[ObjectPath]) -> list[ObjectPath]:
    """Each with what it holds, in this order, as `ObjectPath.fetched`; many are fetched at once.

    One that was just listed is not fetched again while its tag is the same.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_fetched, paths))


def _fetched(path: ObjectPath) -> ObjectPath:
    if path.content is not None:
        return path
    if path.etag is not None:
        with suppress(Changed, FileNotFoundError):
            return replace(path, content=_version(path, path.etag))
    return path.fetched()


@lru_cache(maxsize=16_384)
def _version(path: ObjectPath, etag: str) -> bytes:
    return path.read_tagged(IfMatch=etag)[0]


def _listed(folder: ObjectPath, delimiter: str) -> Iterator[ObjectPath]:
    prefix = f"{folder.key}/" if folder.key else ""
    asked = {"Prefix": prefix, "Delimiter": delimiter}
    while True:
        page = _call(folder, "list_objects_v2", **asked)
        for each in page.get("CommonPrefixes", ()):
            yield ObjectPath(folder.bucket, each["Prefix"].rstrip("/"))
        for each in page.get("Contents", ()):
            if each["Key"] != prefix:  # what some tools put there so that a folder is seen
                status = Status(each["Size"], each["LastModified"].timestamp())
                yield ObjectPath(folder.bucket, each["Key"], None, each["ETag"], status)
        if not page["IsTruncated"]:
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _head(path: ObjectPath) -> dict[str, Any]:
    return _call(path, "head_object", Key=path.key)


def _call(path: ObjectPath, operation: str, **parameters: Any) -> dict[str, Any]:
    """One request.

    Raises:
        FileNotFoundError: no such object.
        Changed: a condition does not hold.
        LakeError: no such bucket, no permission, no store that answers, ...
    """
    for attempt in range(CONFLICTS):
        try:
            found: dict[str, Any] = _asked(path, operation, Bucket=path.bucket, **parameters)
            return found
        except _Conflict as error:
            if attempt + 1 == CONFLICTS:
                raise Changed from error
            time.sleep(0.1)
    raise AssertionError


def _whole(path: ObjectPath, operation: str, *arguments: Any, **named: Any) -> None:
    """A transfer of what may need many requests; the object appears at their end."""
    _asked(path, operation, *arguments, **named)


class _Conflict(Exception):
    """Two requests to one object met in the store: neither is known to have won."""


def _asked(path: ObjectPath, operation: str, *arguments: Any, **named: Any) -> Any:
    client = _client(os.getpid())
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(client, operation)(*arguments, **named)
    except (BotoCoreError, Boto3Error) as error:
        raise _silent(path, error) from _cause(error)
    except ClientError as error:
        told = error.response.get("Error", {})
        code = told.get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in MISSING:
            missing = FileNotFoundError(errno.ENOENT, "no such object", str(path))
            raise missing from error
        if status == 412:
            raise Changed from error
        if status == 409:
            raise _Conflict from error
        raise LakeError(_refusal(path, code, told.get("Message", ""))) from (
            _cause(error) if status >= 500 else error
        )


def _refusal(path: ObjectPath, code: str, message: str) -> str:
    asked = f"{path}: {_endpoint()} refuses"
    if code == "NoSuchBucket":
        return (
            f"{asked}: it has no bucket {path.bucket!r}; make it, or name another one in "
            "PRUNELAKE_LAKE, or another store in AWS_ENDPOINT_URL"
        )
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return (
            f"{asked} ({code}); who AWS_ACCESS_KEY_ID or AWS_PROFILE names must be allowed to "
            f"list, get, put and delete in {path.bucket!r}"
        )
    return f"{asked} ({code}: {message}); see AWS_ENDPOINT_URL and AWS_REGION"


def _silent(path: ObjectPath, error: Exception) -> LakeError:
    return LakeError(
        f"{path}: {_endpoint()} cannot be asked ({one_line(error)}); see AWS_ENDPOINT_URL, "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and the network"
    )


def _cause(error: Exception) -> OSError:
    """The error as one of those that may pass, which sweeps try again."""
    cause = ConnectionError(one_line(error))
    cause.__cause__ = error
    return cause


def _endpoint() -> str:
    return _own_endpoint() or "Amazon S3"


def _own_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@lru_cache(maxsize=1)
def _client(_process: int) -> Any:
    """The client of this process: a fork gets one of its own."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise LakeError(
            "a lake on object storage needs boto3, which is not installed; "
            "pip install 'prunelake[s3]'"
        ) from error

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=AT_ONCE,
        # Bucket names of other stores are seldom host names.
        s3={"addressing_style": "path"} if _own_endpoint() else None,
    )
    region = None
    if _own_endpoint() and not os.environ.get("AWS_REGION"):
        region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    try:
        return boto3.session.Session().client("s3", config=config, region_name=region)
    except (BotoCoreError, ValueError) as error:
        raise LakeError(
            f"no client of {_endpoint()}: {one_line(error)}; see AWS_ENDPOINT_URL, AWS_REGION and "
            "AWS_PROFILE"
        ) from error
