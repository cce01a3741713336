"""Objects in a store, with an interface like that of pathlib.

Each call succeeds or fails as a whole, and sees the writes of all earlier calls. Every call may
raise a LakeError: no such bucket, no permission, or no response from the store.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from prunelake.errors import LakeError
from prunelake.extras import naming_extras

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and stores with its protocol, Google Cloud Storage, and Azure."""

MAX_ATTEMPTS = 4
"""How often a request is tried if the store does not respond."""

MAX_CONCURRENT_REQUESTS = 32

BLOCK_BYTES = 4 * 2**20
"""The size of the blocks in which SQL reads objects; a manifest lists the hash of each block."""

PART_BYTES = 16 * 2**20
"""Larger files are sent and fetched in parts of this size: each request has a time limit."""


class PreconditionFailed(Exception):  # no error of the tree: another writer was first
    """An object does not, or no longer, meet the condition of a request."""


class Tag(NamedTuple):
    """A value that changes with the content of an object: its ETag, and in Google its version."""

    etag: str
    version: str | None


class StatResult(NamedTuple):
    """The result of `stat`, with the field names of pathlib: bytes, and seconds since the epoch."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """The path of an object, or of a folder: all objects whose names begin with it.

    A path with `content` was fetched; reads return this content. A path with `tag` and `status`
    comes from a listing.
    """

    scheme: str
    bucket: str
    key: str
    content: bytes | None = field(default=None, compare=False, repr=False)
    tag: Tag | None = field(default=None, compare=False, repr=False)
    status: StatResult | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> "ObjectPath":
        return self._at(f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last component of the path."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """The name from its last dot on; empty if the dot is the first or the last character."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "ObjectPath":
        """The folder of this path."""
        return self._at(self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "ObjectPath":
        """The path with another name in the same folder."""
        return self.parent / name

    def resolve(self) -> "ObjectPath":
        """The same path: it is absolute and has no links."""
        return self

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """The objects and folders directly in this folder whose names match."""
        found = self.request("list")
        for path in (
            *map(self._at, found["common_prefixes"]),
            *map(self._listed, found["objects"]),
        ):
            if fnmatchcase(path.name, pattern):
                yield path

    def iter_objects(self) -> Iterator["ObjectPath"]:
        """All objects in this folder, at any depth."""
        return map(self._listed, self.request("list all"))

    def is_file(self) -> bool:
        """Whether this object exists."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether this folder has any object."""
        found = self.request("list")
        return bool(found["common_prefixes"] or found["objects"])

    def stat(self) -> StatResult:
        """The size in bytes, and the time of the last write by the clock of the store.

        Raises:
            FileNotFoundError: no such object.
        """
        return self.status or _status_of(self.request("get", head=True)[1])

    def metadata(self) -> tuple[Tag, Mapping[str, str]]:
        """The tag of the content, and the metadata stored with it.

        Raises:
            FileNotFoundError: no such object.
        """
        _, meta, attributes = self.request("get", head=True)
        return _tag_of(meta), attributes

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: no such object.
        """
        return self.content if self.content is not None else self.read_with_tag()[0]

    def read_with_tag(
        self, first: int = 0, count: int | None = None, tag: Tag | None = None
    ) -> tuple[bytes, Tag, int]:
        """The content (or `count` bytes of it from `first` on), its tag, and its whole size.

        Raises:
            FileNotFoundError: no such object.
            PreconditionFailed: its tag is not `tag`.
        """
        options: dict[str, Any] = {} if count is None else {"range": (first, first + count)}
        if tag is not None:
            options["if_match"] = tag.etag
        content, meta, _ = self.request("get", **options)
        return content, _tag_of(meta), meta["size"]

    def prefetch(self) -> "ObjectPath":
        """The same path with its current content; without content if there is no such object."""
        try:
            content, tag, _ = self.read_with_tag()
        except FileNotFoundError:
            return self
        return replace(self, content=content, tag=tag)

    def put(self, content: bytes | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the object, or a file of any size, with metadata; this replaces any content.

        The names of metadata have letters only: not every store allows other characters.
        """
        self.request("put", content=content, attributes=metadata)

    def create(self, content: bytes) -> Tag | None:
        """Create the object and return its tag; None, without a change, if it exists already.

        An object with the same content counts as created: it may come from an earlier attempt whose
        response was lost.
        """
        return self._put(content, "create")

    def replace(self, content: bytes, tag: Tag) -> Tag | None:
        """Replace the content if it still has this tag, and return the new tag; otherwise None."""
        known = {"e_tag": tag.etag, "version": tag.version}
        return self._put(content, {name: value for name, value in known.items() if value})

    def _put(self, content: bytes, mode: object) -> Tag | None:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return _tag_of(self.request("put", content=content, mode=mode))
            except PreconditionFailed:
                stored = self.prefetch()
                return stored.tag if stored.content == content else None
            except FileNotFoundError:
                return None
            except LakeError as error:
                # obstore does not repeat a request with a condition if it may have been executed.
                if attempt == MAX_ATTEMPTS or not isinstance(error.__cause__, ConnectionError):
                    raise
        raise AssertionError

    def remove(self, tag: Tag | None = None) -> bool:
        """Delete the object, if it exists; with `tag` only if it has this tag, otherwise False.

        Stores do not check this condition, so another process may write in between.
        """
        try:
            if tag is not None and self.metadata()[0].etag != tag.etag:
                return False
            self.request("delete")
        except FileNotFoundError:
            return tag is None
        return True

    def copy_from(self, other: "ObjectPath") -> None:
        """Copy the content of another object of the bucket, within the store.

        Raises:
            FileNotFoundError: no such object.
        """
        other.request("copy", to=self.key)

    def download(self, file: Path) -> None:
        """Write the content to a local file.

        Raises:
            FileNotFoundError: no such object.
        """
        is_complete = False
        while not is_complete:
            content, tag, size = self.read_with_tag(0, PART_BYTES)
            with file.open("wb") as stream, suppress(PreconditionFailed):  # replaced meanwhile
                stream.write(content)
                for first in range(PART_BYTES, size, PART_BYTES):
                    stream.write(self.read_with_tag(first, PART_BYTES, tag)[0])
                is_complete = True

    def request(self, operation: str, **options: Any) -> Any:
        """Send one request about this object or folder, as `stores.request`."""
        with naming_extras():
            from prunelake.lake.storage import stores
        return stores.request(self.scheme, self.bucket, self.key, operation, **options)

    def _at(self, key: str) -> "ObjectPath":
        return ObjectPath(self.scheme, self.bucket, key)

    def _listed(self, meta: dict[str, Any]) -> "ObjectPath":
        return replace(self._at(meta["path"]), tag=_tag_of(meta), status=_status_of(meta))


def parse_object_path(url: str) -> ObjectPath:
    """The path of `s3://bucket/prefix`, `gs://...` or `az://...`.

    Raises:
        LakeError: no bucket.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise LakeError(f"{url!r} names no bucket; write {scheme}://BUCKET/PREFIX")
    return ObjectPath(scheme, bucket, "/".join(part for part in key.split("/") if part))


def _tag_of(meta: dict[str, Any]) -> Tag:
    # In listings, Azure writes the tag without its quotes.
    etag = meta["e_tag"] or ""
    return Tag(etag if etag.endswith('"') else f'"{etag}"', meta.get("version"))


def _status_of(meta: dict[str, Any]) -> StatResult:
    written: datetime = meta["last_modified"]
    return StatResult(meta["size"], written.timestamp())
