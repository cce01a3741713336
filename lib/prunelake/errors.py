"""All errors that PruneLake raises on purpose.

PruneLakeError
├── InvalidSpec           a sweep, option or log that cannot be used as it is
├── ModelError
│   ├── ModelNotFound     no weights behind a model reference
│   ├── HubUnreachable    the hub, or the way to it, does not answer
│   ├── UnsupportedModel  weights, but no layers that could be found and removed
│   ├── UnknownLayer      a layer or level beyond those of the model
│   └── ExportError       a checkpoint that could not be written, or was not right
├── TaskError
│   ├── UnknownTask       no such task in the catalog
│   ├── DatasetNotFound   the task's rows are neither in PRUNELAKE_DATA nor on the hub
│   ├── BadRow            a row lacks a column, or its label names no option
│   ├── EmptySelection    the row selection leaves nothing to evaluate
│   └── ExampleTooLong    an example does not fit into the model's context
├── LakeError
│   ├── CorruptFile       a file that is not what was written
│   ├── WrongFormat       a lake written by another format version
│   ├── NoSnapshot        nothing was published yet, or by another version of PruneLake
│   └── QueryError        SQL that DuckDB refuses
├── InvalidCalibrator     a calibrator that cannot be applied, or that the lake lacks
├── NoServer              no Prefect server, or one without the deployments
├── NoCluster             no Ray, or no cluster of it that computes what it is given
└── RequestError          a request that the API cannot answer
    ├── InvalidRequest    a parameter or value that means nothing
    ├── NotFound          no such view, run, example or chart
    ├── NothingToShow     a run that lacks what was asked for
    ├── LimitExceeded     an answer beyond a limit of time, memory or size
    ├── Outdated          a page of a snapshot that has been replaced
    ├── Busy              no process is free to answer
    └── Refused           no token or a wrong one, or a caller from outside
"""

from collections.abc import Iterable


def one_line(error: BaseException) -> str:
    """An error of another library, to be quoted in a message of ours."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class PruneLakeError(Exception):
    """One clear line: what is wrong, where, and what would do."""


class InvalidSpec(PruneLakeError):
    """A sweep, an option or a log to import that cannot be used as it is."""


class ModelError(PruneLakeError):
    """Something about a model."""


class ModelNotFound(ModelError):
    """No weights behind a model reference."""


class HubUnreachable(ModelError):
    """The hub, or the way to it, does not answer."""


class UnsupportedModel(ModelError):
    """A model whose attention layers, or MLPs, could not be found or removed."""


class UnknownLayer(ModelError):
    """A layer or level that the model does not have."""


class ExportError(ModelError):
    """A checkpoint that could not be written, or that answers otherwise than it should."""


class TaskError(PruneLakeError):
    """Something about a task or its data."""


class UnknownTask(TaskError):
    """No such task in the catalog."""


class DatasetNotFound(TaskError):
    """The rows of a task are not where they were looked for."""


class BadRow(TaskError):
    """A row that lacks a column or whose label names no option."""


class EmptySelection(TaskError):
    """A row selection that leaves nothing to evaluate."""


class ExampleTooLong(TaskError):
    """An example that does not fit into the model's context."""


class LakeError(PruneLakeError):
    """Something about the lake."""


class CorruptFile(LakeError):
    """A file of the lake that is not what was written."""


class WrongFormat(LakeError):
    """A lake written by another format version."""


class NoSnapshot(LakeError):
    """Nothing was published yet, or by another version of PruneLake."""


class QueryError(LakeError):
    """SQL that DuckDB refuses."""


class InvalidCalibrator(PruneLakeError):
    """A calibrator that cannot be applied, or that the lake does not have."""


class PrefectUnavailable(PruneLakeError):
    """No Prefect server answers, or it does not know PruneLake's deployments."""


class RayUnavailable(PruneLakeError):
    """No Ray is installed, or no cluster of it answers and computes what it is given."""


class RequestError(PruneLakeError):
    """A request that the API cannot answer; `choices` are what it could have named."""

    def __init__(self, message: str, choices: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.choices = list(choices)


class InvalidRequest(RequestError):
    """A parameter or value that means nothing."""


class NotFound(RequestError):
    """No such view, run, example or chart."""


class NothingToShow(RequestError):
    """A run that lacks what was asked for."""


class LimitExceeded(RequestError):
    """An answer beyond a limit of time, memory or size."""


class OutdatedCursor(RequestError):
    """A page of a snapshot that has been replaced."""


class ServerBusy(RequestError):
    """No process is free to answer."""


class AccessDenied(RequestError):
    """No token or a wrong one, or a caller from outside."""
