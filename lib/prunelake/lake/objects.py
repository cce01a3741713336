"""Objects in a store that speaks S3, under paths that are used as those of pathlib are.

Each call is answered whole or not at all, and sees what every earlier call has written. Every one
may raise a LakeError: no such bucket, no permission, no store that answers.
"""

import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from prunelake.errors import LakeError
from prunelake.lake import s3
from prunelake.lake.s3 import MAX_ATTEMPTS, MAX_CONCURRENT_REQUESTS, PreconditionFailed

SCHEME = "s3://"


class StatResult(NamedTuple):
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
    status: StatResult | None = field(default=None, compare=False, repr=False)

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

    def absolute(self) -> "ObjectPath":
        """Itself: an object has no other name."""
        return self

    def with_name(self, name: str) -> "ObjectPath":
        """Another one in the same folder."""
        return self.parent / name

    def is_relative_to(self, folder: "ObjectPath") -> bool:
        """Whether it is somewhere in a folder."""
        begin = f"{folder.key}/" if folder.key else ""
        return self.bucket == folder.bucket and self.key.startswith(begin)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """The objects and folders in this folder whose names match, in no deeper one."""
        for found in _list_objects(self, "/"):
            if fnmatchcase(found.name, pattern):
                yield found

    def iter_objects(self) -> Iterator["ObjectPath"]:
        """All objects in this folder, also in deeper ones."""
        return _list_objects(self, "")

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            if self.content is None:
                _head_object(self)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is any object in such a folder."""
        prefix = f"{self.key}/" if self.key else ""
        return bool(self.request("list_objects_v2", Prefix=prefix, MaxKeys=1)["KeyCount"])

    def exists(self) -> bool:
        """Whether there is such an object or folder."""
        return self.is_file() or self.is_dir()

    def stat(self) -> StatResult:
        """Size in bytes and, by the store's clock, when it was written.

        Raises:
            FileNotFoundError: no such object.
        """
        if self.status is not None:
            return self.status
        head = _head_object(self)
        written: datetime = head["LastModified"]
        return StatResult(head["ContentLength"], written.timestamp())

    def metadata(self) -> tuple[str, dict[str, str]]:
        """The tag of what it holds, and what was put beside it.

        Raises:
            FileNotFoundError: no such object.
        """
        head = _head_object(self)
        return head["ETag"], head["Metadata"]

    def read_bytes(self) -> bytes:
        """What it holds.

        Raises:
            FileNotFoundError: no such object.
        """
        return self.content if self.content is not None else self.read_with_etag()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """What it holds, as text."""
        return self.read_bytes().decode(encoding)

    def read_with_etag(
        self, first: int = 0, count: int | None = None, **condition: str
    ) -> tuple[bytes, str, int]:
        """What it holds, or `count` bytes of that, its tag, and its whole size.

        Raises:
            FileNotFoundError: no such object.
            PreconditionFailed: `IfMatch` is not its tag.
        """
        from botocore.exceptions import BotoCoreError

        part = {} if count is None else {"Range": f"bytes={first}-{first + count - 1}"}
        for attempt in range(MAX_ATTEMPTS):
            found = self.request("get_object", Key=self.key, **part, **condition)
            try:
                content = found["Body"].read()
            except BotoCoreError as error:  # while it was sent
                if attempt + 1 == MAX_ATTEMPTS:
                    raise s3.no_answer_error(self.bucket, self.key, error) from s3.transient_error(
                        error
                    )
                continue
            size = found.get("ContentRange", "").rpartition("/")[2] or len(content)
            return content, found["ETag"], int(size)
        raise AssertionError

    def prefetch(self) -> "ObjectPath":
        """The same, with what it holds now; without, if there is no such object."""
        try:
            content, etag, _ = self.read_with_etag()
        except FileNotFoundError:
            return self
        return replace(self, content=content, etag=etag)

    def put(self, content: bytes) -> None:
        """Make it hold this, whatever it held."""
        self.request("put_object", Key=self.key, Body=content)

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
            etag: str = self.request("put_object", **sent)["ETag"]
        except FileNotFoundError:
            return None
        except PreconditionFailed:
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
            self.request("delete_object", Key=self.key)
            return True
        try:
            # Not every store looks at the condition of a deletion.
            if self.metadata()[0] != etag:
                return False
            self.request("delete_object", Key=self.key, IfMatch=etag)
        except (FileNotFoundError, PreconditionFailed):
            return False
        return True

    def copy_from(self, other: "ObjectPath") -> None:
        """Make it hold what another object holds; the store copies it.

        Raises:
            FileNotFoundError: no such object.
        """
        self.transfer("copy", {"Bucket": other.bucket, "Key": other.key}, self.bucket, self.key)

    def upload(self, file: str, beside: dict[str, str]) -> None:
        """Make it hold what a file of this machine holds, of any size."""
        told = {"Metadata": beside}
        self.transfer("upload_file", file, self.bucket, self.key, ExtraArgs=told)

    def download(self, file: str) -> None:
        """Write what it holds into a file of this machine.

        Raises:
            FileNotFoundError: no such object.
        """
        self.transfer("download_file", self.bucket, self.key, file)

    def request(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request about it, as `s3.call_with_retries`."""
        found = s3.call_with_retries(
            self.bucket, self.key, operation, Bucket=self.bucket, **parameters
        )
        return dict(found)

    def transfer(self, operation: str, *arguments: Any, **named: Any) -> None:
        """A transfer of what may need many requests; the object appears at their end."""
        s3.call_with_retries(self.bucket, self.key, operation, *arguments, **named)


def parse_object_path(url: str) -> ObjectPath:
    """The path of `s3://bucket/prefix`.

    Raises:
        LakeError: no bucket.
    """
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise LakeError(f"{url!r} names no bucket; write s3://BUCKET/PREFIX")
    return ObjectPath(bucket, "/".join(part for part in key.split("/") if part))


def prefetch_all(paths: Iterable[ObjectPath]) -> list[ObjectPath]:
    """Each with what it holds, in this order, as `ObjectPath.fetched`; many are fetched at once.

    One that was just listed is not fetched again while its tag is the same.
    """
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        return list(pool.map(_prefetch, paths))


def _prefetch(path: ObjectPath) -> ObjectPath:
    if path.content is not None:
        return path
    if path.etag is not None:
        with suppress(PreconditionFailed, FileNotFoundError):
            return replace(path, content=_read_version(path, path.etag))
    return path.prefetch()


@lru_cache(maxsize=16_384)
def _read_version(path: ObjectPath, etag: str) -> bytes:
    return path.read_with_etag(IfMatch=etag)[0]


def _list_objects(folder: ObjectPath, delimiter: str) -> Iterator[ObjectPath]:
    prefix = f"{folder.key}/" if folder.key else ""
    asked = {"Prefix": prefix, "Delimiter": delimiter}
    while True:
        page = folder.request("list_objects_v2", **asked)
        for each in page.get("CommonPrefixes", ()):
            yield ObjectPath(folder.bucket, each["Prefix"].rstrip("/"))
        for each in page.get("Contents", ()):
            if each["Key"] != prefix:  # what some tools put there so that a folder is seen
                status = StatResult(each["Size"], each["LastModified"].timestamp())
                yield ObjectPath(folder.bucket, each["Key"], None, each["ETag"], status)
        if not page["IsTruncated"]:
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _head_object(path: ObjectPath) -> dict[str, Any]:
    return path.request("head_object", Key=path.key)
