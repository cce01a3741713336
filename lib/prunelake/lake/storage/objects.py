"""Objects in a store with the S3 protocol, with an interface like that of pathlib.

Each call succeeds or fails as a whole, and sees the writes of all earlier calls. Every call may
raise a LakeError: no such bucket, no permission, or no response from the store.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from prunelake.errors import LakeError
from prunelake.lake.storage import s3
from prunelake.lake.storage.s3 import MAX_ATTEMPTS, PreconditionFailed

SCHEME = "s3://"


class StatResult(NamedTuple):
    """The result of `stat`, with the field names of pathlib: bytes, and seconds since the epoch."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The path of an object, or of the folder of all objects whose names continue after it.

    A path with `content` was fetched, and is read from that. A path with `etag` and `status` comes
    from a listing.
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
        """The last component of the path."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.removesuffix(self.suffix)

    @property
    def suffix(self) -> str:
        """The name from its last dot on; empty if the dot is the first or the last character."""
        before, dot, after = self.name.rpartition(".")
        return dot + after if before and after else ""

    @property
    def parent(self) -> "ObjectPath":
        """The folder of this path."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def absolute(self) -> "ObjectPath":
        """This path: objects have no relative names."""
        return self

    def with_name(self, name: str) -> "ObjectPath":
        """The path with another name in the same folder."""
        return self.parent / name

    def is_relative_to(self, folder: "ObjectPath") -> bool:
        """Whether the path lies in a folder, at any depth."""
        prefix = f"{folder.key}/" if folder.key else ""
        return self.bucket == folder.bucket and self.key.startswith(prefix)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """The objects and folders directly in this folder whose names match."""
        for path in _list_objects(self, "/"):
            if fnmatchcase(path.name, pattern):
                yield path

    def iter_objects(self) -> Iterator["ObjectPath"]:
        """All objects in this folder, at any depth."""
        return _list_objects(self, "")

    def is_file(self) -> bool:
        """Whether this object exists."""
        try:
            if self.content is None:
                _head_object(self)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether this folder has any object."""
        prefix = f"{self.key}/" if self.key else ""
        return bool(self.request("list_objects_v2", Prefix=prefix, MaxKeys=1)["KeyCount"])

    def exists(self) -> bool:
        """Whether this object or folder exists."""
        return self.is_file() or self.is_dir()

    def stat(self) -> StatResult:
        """The size in bytes, and the time of the last write by the clock of the store.

        Raises:
            FileNotFoundError: no such object.
        """
        if self.status is not None:
            return self.status
        response = _head_object(self)
        written: datetime = response["LastModified"]
        return StatResult(response["ContentLength"], written.timestamp())

    def metadata(self) -> tuple[str, dict[str, str]]:
        """The tag of the content, and the metadata stored with it.

        Raises:
            FileNotFoundError: no such object.
        """
        response = _head_object(self)
        return response["ETag"], response["Metadata"]

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: no such object.
        """
        return self.content if self.content is not None else self.read_with_etag()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return self.read_bytes().decode(encoding)

    def read_with_etag(
        self, first: int = 0, count: int | None = None, **condition: str
    ) -> tuple[bytes, str, int]:
        """The content (or `count` bytes of it from `first` on), its tag, and its whole size.

        Raises:
            FileNotFoundError: no such object.
            PreconditionFailed: the tag is not `IfMatch`.
        """
        from botocore.exceptions import BotoCoreError

        byte_range = {} if count is None else {"Range": f"bytes={first}-{first + count - 1}"}
        for attempt in range(MAX_ATTEMPTS):
            response = self.request("get_object", Key=self.key, **byte_range, **condition)
            try:
                content = response["Body"].read()
            except BotoCoreError as error:  # the connection broke during the transfer
                if attempt + 1 == MAX_ATTEMPTS:
                    raise s3.no_answer_error(self.bucket, self.key, error) from s3.transient_error(
                        error
                    )
                continue
            size = response.get("ContentRange", "").rpartition("/")[2] or len(content)
            return content, response["ETag"], int(size)
        raise AssertionError

    def prefetch(self) -> "ObjectPath":
        """The same path with its current content; without content if there is no such object."""
        try:
            content, etag, _ = self.read_with_etag()
        except FileNotFoundError:
            return self
        return replace(self, content=content, etag=etag)

    def put(self, content: bytes) -> None:
        """Write the object, replacing any content."""
        self.request("put_object", Key=self.key, Body=content)

    def create(self, content: bytes) -> str | None:
        """Create the object and return its tag; None, without a change, if it exists already."""
        return self._put(content, IfNoneMatch="*")

    def replace(self, content: bytes, etag: str) -> str | None:
        """Replace the content if it still has this tag, and return the new tag; otherwise None."""
        return self._put(content, IfMatch=etag)

    def _put(self, content: bytes, **condition: str) -> str | None:
        writer = uuid.uuid4().hex
        metadata = {"writer": writer}
        try:
            response = self.request(
                "put_object", Key=self.key, Body=content, Metadata=metadata, **condition
            )
        except FileNotFoundError:
            return None
        except PreconditionFailed:
            # If the response was lost, the request is sent again and finds its own object.
            try:
                etag, metadata = self.metadata()
            except FileNotFoundError:
                return None
            return etag if metadata.get("writer") == writer else None
        return str(response["ETag"])

    def remove(self, etag: str | None = None) -> bool:
        """Delete the object; with `etag` only if its content has this tag, otherwise False."""
        if etag is None:
            self.request("delete_object", Key=self.key)
            return True
        try:
            # Not every store checks the condition of a deletion.
            if self.metadata()[0] != etag:
                return False
            self.request("delete_object", Key=self.key, IfMatch=etag)
        except (FileNotFoundError, PreconditionFailed):
            return False
        return True

    def copy_from(self, other: "ObjectPath") -> None:
        """Copy the content of another object, within the store.

        Raises:
            FileNotFoundError: no such object.
        """
        self.transfer("copy", {"Bucket": other.bucket, "Key": other.key}, self.bucket, self.key)

    def upload(self, file: str, metadata: dict[str, str]) -> None:
        """Write the content of a local file of any size, and the metadata stored with it."""
        self.transfer("upload_file", file, self.bucket, self.key, ExtraArgs={"Metadata": metadata})

    def download(self, file: str) -> None:
        """Write the content to a local file.

        Raises:
            FileNotFoundError: no such object.
        """
        self.transfer("download_file", self.bucket, self.key, file)

    def request(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send one request about this object, as `s3.call_with_retries`."""
        response = s3.call_with_retries(
            self.bucket, self.key, operation, Bucket=self.bucket, **parameters
        )
        return dict(response)

    def transfer(self, operation: str, *arguments: Any, **named: Any) -> None:
        """Transfer an object with as many requests as needed; it appears after the last."""
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


def _list_objects(folder: ObjectPath, delimiter: str) -> Iterator[ObjectPath]:
    prefix = f"{folder.key}/" if folder.key else ""
    parameters = {"Prefix": prefix, "Delimiter": delimiter}
    while True:
        page = folder.request("list_objects_v2", **parameters)
        for entry in page.get("CommonPrefixes", ()):
            yield ObjectPath(folder.bucket, entry["Prefix"].rstrip("/"))
        for entry in page.get("Contents", ()):
            if entry["Key"] != prefix:  # some tools create an empty object for a folder
                status = StatResult(entry["Size"], entry["LastModified"].timestamp())
                yield ObjectPath(folder.bucket, entry["Key"], None, entry["ETag"], status)
        if not page["IsTruncated"]:
            return
        parameters["ContinuationToken"] = page["NextContinuationToken"]


def _head_object(path: ObjectPath) -> dict[str, Any]:
    return path.request("head_object", Key=path.key)
