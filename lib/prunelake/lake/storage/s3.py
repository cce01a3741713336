"""Requests to a store with the S3 protocol, and clear errors for failed requests.

The store and its keys come from the environment variables that all AWS tools read.
"""

import errno
import os
import time
from functools import lru_cache
from typing import Any

from prunelake.errors import LakeError, one_line

CONNECT_SECONDS, READ_SECONDS = 5, 30
"""Time limits of one attempt at a request."""

MAX_ATTEMPTS = 4
"""How often a request is tried if the store does not respond."""

MAX_CONCURRENT_REQUESTS = 32

MAX_CONFLICT_RETRIES = 20
"""How often a request is retried after a conflict on the same object."""

NOT_FOUND_CODES = {"NoSuchKey", "404"}


class PreconditionFailed(Exception):  # no error of the tree: another writer was first
    """An object does not, or no longer, meet the condition of a request."""


class _Conflict(Exception):
    """Two requests changed one object at the same time; perhaps neither succeeded."""


def call_with_retries(bucket: str, key: str, operation: str, *arguments: Any, **named: Any) -> Any:
    """The response of the client to a request about an object or a folder; conflicts are retried.

    Raises:
        FileNotFoundError: no such object.
        PreconditionFailed: a condition does not hold.
        LakeError: no such bucket, no permission, no response from the store.
    """
    for attempt in range(MAX_CONFLICT_RETRIES):
        try:
            return call_once(bucket, key, operation, *arguments, **named)
        except _Conflict as error:
            if attempt + 1 == MAX_CONFLICT_RETRIES:
                raise PreconditionFailed from error
            time.sleep(0.1)
    raise AssertionError


def call_once(bucket: str, key: str, operation: str, *arguments: Any, **named: Any) -> Any:
    """The same as `call_with_retries`, with a single attempt.

    Raises:
        FileNotFoundError, PreconditionFailed, LakeError: as `call_with_retries`.
        _Conflict: another request changed the object at the same time.
    """
    client = client_for_process(os.getpid())
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(client, operation)(*arguments, **named)
    except (BotoCoreError, Boto3Error) as error:
        raise no_answer_error(bucket, key, error) from transient_error(error)
    except ClientError as error:
        details = error.response.get("Error", {})
        code = details.get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in NOT_FOUND_CODES:
            missing = FileNotFoundError(errno.ENOENT, "no such object", _url(bucket, key))
            raise missing from error
        if status == 412:
            raise PreconditionFailed from error
        if status == 409:
            raise _Conflict from error
        raise LakeError(_refusal_message(bucket, key, code, details.get("Message", ""))) from (
            transient_error(error) if status >= 500 else error
        )


def _refusal_message(bucket: str, key: str, code: str, message: str) -> str:
    refusal = f"{_url(bucket, key)}: {_endpoint()} refuses"
    if code == "NoSuchBucket":
        return (
            f"{refusal}: it has no bucket {bucket!r}; create it, or name another bucket in "
            "PRUNELAKE_LAKE, or another store in AWS_ENDPOINT_URL"
        )
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return (
            f"{refusal} ({code}); the account of AWS_ACCESS_KEY_ID or AWS_PROFILE needs "
            f"permission to list, get, put and delete in {bucket!r}"
        )
    return f"{refusal} ({code}: {message}); see AWS_ENDPOINT_URL and AWS_REGION"


def no_answer_error(bucket: str, key: str, error: Exception) -> LakeError:
    """The error of a store that does not respond."""
    return LakeError(
        f"{_url(bucket, key)}: {_endpoint()} does not answer ({one_line(error)}); see "
        "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and the "
        "network"
    )


def transient_error(error: Exception) -> OSError:
    """The error as a ConnectionError: it may pass, so sweeps try again."""
    cause = ConnectionError(one_line(error))
    cause.__cause__ = error
    return cause


def _endpoint() -> str:
    return _custom_endpoint() or "Amazon S3"


def _custom_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@lru_cache(maxsize=1)
def client_for_process(_process: int) -> Any:
    """The client of a process, cached by process id: a forked process must not share it.

    Raises:
        LakeError: boto3 is not installed, or the environment variables are not valid.
    """
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
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        max_pool_connections=MAX_CONCURRENT_REQUESTS,
        # Other stores rarely resolve bucket names as host names.
        s3={"addressing_style": "path"} if _custom_endpoint() else None,
    )
    region = None
    if _custom_endpoint() and not os.environ.get("AWS_REGION"):
        region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    try:
        return boto3.session.Session().client("s3", config=config, region_name=region)
    except (BotoCoreError, ValueError) as error:
        raise LakeError(
            f"cannot make a client for {_endpoint()}: {one_line(error)}; see AWS_ENDPOINT_URL, "
            "AWS_REGION and AWS_PROFILE"
        ) from error


def _url(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}".rstrip("/")
