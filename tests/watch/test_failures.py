"""Machine failures: memory, disk, network, servers."""

import errno

import httpx
import pytest
import requests
import torch
from botocore.exceptions import EndpointConnectionError

from prunelake.errors import HubUnreachable, LakeError, ModelError, ModelNotFound, RayUnavailable
from prunelake.watch.failures import is_machine_failure


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        caused(ModelError("does not fit"), torch.OutOfMemoryError("CUDA out of memory")),
        caused(LakeError("cannot be written"), OSError(errno.ENOSPC, "No space left on device")),
        OSError(errno.EIO, "Input/output error"),
        caused(ModelNotFound("could not be fetched"), httpx.ConnectError("refused")),
        caused(ModelNotFound("could not be fetched"), requests.ConnectionError("refused")),
        caused(LakeError("no answer"), EndpointConnectionError(endpoint_url="http://store")),
        caused(LakeError("no answer"), caused(RuntimeError("gone"), ConnectionResetError())),
        HubUnreachable("the hub does not answer"),
        RayUnavailable("no cluster"),
    ],
    ids=repr,
)
def test_a_machine_failure_is_known_by_its_cause(error: Exception) -> None:
    assert is_machine_failure(error)


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("no such model"),
        caused(ModelNotFound("no such folder"), FileNotFoundError(errno.ENOENT, "No such file")),
        caused(LakeError("cannot be written"), PermissionError(errno.EACCES, "denied")),
        RuntimeError("size mismatch"),
        KeyError("weight"),
    ],
    ids=repr,
)
def test_other_failures_belong_to_the_model_or_the_data(error: Exception) -> None:
    assert not is_machine_failure(error)
