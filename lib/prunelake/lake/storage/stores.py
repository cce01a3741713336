"""Requests to object stores by obstore: Amazon S3 and similar ones, Google Cloud Storage, Azure.

Each store and its keys come from the environment variables that the tools of its provider read.
Only `ObjectPath.request` imports this module, because obstore is an optional package.
"""

import errno
import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from prunelake.errors import LakeError, one_line
from prunelake.lake.storage.objects import MAX_ATTEMPTS, PART_BYTES, PreconditionFailed

CLIENT: Any = {"connect_timeout": "5s", "timeout": "60s"}
RETRIES: Any = {"max_retries": MAX_ATTEMPTS - 1, "retry_timeout": timedelta(seconds=60)}


class Provider(NamedTuple):
    """How users name a provider of stores, its folders, and its settings."""

    name: str
    bucket: str
    variables: str
    """The environment variables with the address and the account."""


PROVIDERS = {
    "s3": Provider(
        "Amazon S3",
        "bucket",
        "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    "gs": Provider("Google Cloud Storage", "bucket", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": Provider(
        "Azure", "container", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
    ),
}
"""The providers by the scheme of their URLs."""


def request(scheme: str, bucket: str, key: str, operation: str, **options: Any) -> Any:
    """Send one request about an object or a folder; `_OPERATIONS` has the operations.

    Raises:
        FileNotFoundError: no such object.
        PreconditionFailed: a condition does not hold.
        LakeError: no such bucket, no permission, or no response from the store. The cause is a
            ConnectionError if another attempt may succeed.
    """
    store = store_for_process(scheme, bucket, os.getpid())
    try:
        return _OPERATIONS[operation](store, key, **options)
    except (AlreadyExistsError, PreconditionError) as error:
        raise PreconditionFailed from error
    except (BaseError, FileNotFoundError) as error:
        url = f"{scheme}://{bucket}/{key}".rstrip("/")
        message = " ".join(str(error).partition("\n\nDebug source")[0].split())
        if isinstance(error, FileNotFoundError) and not _is_bucket_missing(message):
            raise FileNotFoundError(errno.ENOENT, "no such object", url) from error
        status = re.search(r"status code: (\d{3})", message)
        code = int(status[1]) if status else None
        is_passing = code is None or code >= 500 or code in (408, 429)
        cause = ConnectionError(message) if is_passing else error
        raise LakeError(f"{url}: {_reason(scheme, bucket, message, code)}") from cause


def _get(store: ObjectStore, key: str, **options: Any) -> tuple[bytes, Any, dict[str, str]]:
    """The content, what the store knows about it, and the attributes stored with it."""
    result = obstore.get(store, key, options=options)  # type: ignore[arg-type]  # a TypedDict
    return b"" if options.get("head") else bytes(result.bytes()), result.meta, result.attributes


def _put(store: ObjectStore, key: str, content: bytes | Path, **options: Any) -> Any:
    # A large file is sent in parts. Bytes are sent whole: they may have a condition.
    in_parts = None if isinstance(content, Path) else False
    return obstore.put(
        store, key, content, use_multipart=in_parts, chunk_size=PART_BYTES, **options
    )


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": _get,
    "put": _put,
    "delete": obstore.delete,
    "copy": obstore.copy,
    "list": obstore.list_with_delimiter,
    "list all": lambda store, key: obstore.list(store, key).collect(),
}


@lru_cache(maxsize=64)
def store_for_process(scheme: str, bucket: str, _process: int) -> ObjectStore:
    """The store with a bucket, cached by process id: a forked process must not share it.

    Raises:
        LakeError: the settings are not valid, or boto3 is needed and not installed.
    """
    try:
        if scheme == "gs":
            return GCSStore(bucket, client_options=CLIENT, retry_config=RETRIES)
        if scheme == "az":
            return AzureStore(bucket, client_options=CLIENT, retry_config=RETRIES)
        options: Any = {"client_options": CLIENT, "retry_config": RETRIES}
        if endpoint := _endpoint():
            options["endpoint"] = endpoint
            options["client_options"] = CLIENT | {"allow_http": endpoint.startswith("http://")}
        if "AWS_ACCESS_KEY_ID" not in os.environ and (profile := _profile()):
            options["credential_provider"] = _profile_keys(profile)
        return S3Store(bucket, **options)
    except (BaseError, ValueError) as error:
        provider = PROVIDERS[scheme]
        raise LakeError(
            f"cannot use {provider.name} ({one_line(error)}); see {provider.variables}"
        ) from error


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _profile() -> str | None:
    """The profile of the AWS tools that has the keys, if there is one."""
    if "AWS_PROFILE" in os.environ:
        return os.environ["AWS_PROFILE"]
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    return "default" if Path(file).expanduser().is_file() else None


def _profile_keys(profile: str) -> Any:
    try:
        from boto3.session import Session
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError as error:
        raise LakeError(
            f"the AWS profile {profile!r} needs boto3, which is not installed; pip install boto3, "
            "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    try:
        return Boto3CredentialProvider(Session(profile_name=profile))
    except BotoCoreError as error:
        raise ValueError(one_line(error)) from error


def _is_bucket_missing(message: str) -> bool:
    return "NoSuchBucket" in message or "ContainerNotFound" in message


def _reason(scheme: str, bucket: str, message: str, status: int | None) -> str:
    """Why a request failed, and the remedy."""
    provider = PROVIDERS[scheme]
    name = (_endpoint() if scheme == "s3" else None) or provider.name
    if _is_bucket_missing(message):
        return (
            f"{name} has no {provider.bucket} {bucket!r}; create it, or name another "
            f"{provider.bucket} in PRUNELAKE_LAKE, or another store in {provider.variables}"
        )
    if "169.254.169.254" in message:  # without keys, obstore asks the virtual machine for some
        return f"there are no keys for {name}; set {provider.variables}"
    if status is None:
        return f"{name} does not answer ({message}); see {provider.variables}, and the network"
    refused = re.search("<Code>(.*?)</Code>", message)
    refusal = f"{name} refuses ({refused[1] if refused else message})"
    if status in (401, 403):
        return (
            f"{refusal}; the account in {provider.variables} needs permission to list, get, put "
            f"and delete in {bucket!r}"
        )
    return f"{refusal}; see {provider.variables}"
