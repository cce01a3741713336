"""All errors that PruneLake raises on purpose.

PruneLakeError
├── MissingExtra            an optional package is not installed
├── InvalidSpec             a sweep, an option or a log cannot be used
├── ModelError
│   ├── ModelNotFound       a model reference leads to no weights
│   ├── HubUnreachable      the hub does not answer
│   ├── UnsupportedModel    the layers of a model cannot be found or removed
│   ├── UnknownLayer        the model has no such layer or level
│   └── ExportError         a checkpoint cannot be written, or gives wrong answers
├── TaskError
│   ├── UnknownTask         the catalogue has no such task
│   ├── DatasetNotFound     neither PRUNELAKE_DATA nor the hub has the rows of a task
│   ├── BadRow              a row lacks a column, or its label names no option
│   ├── EmptySelection      a row selection leaves no rows
│   └── ExampleTooLong      an example does not fit into the model's context
├── LakeError
│   ├── CorruptFile         a file is not as it was written
│   ├── WrongFormat         a lake has another format version
│   ├── NoSnapshot          the lake has no snapshot of this version of PruneLake
│   └── QueryError          DuckDB rejects the SQL
├── InvalidCalibrator       a calibrator cannot be applied, or the lake lacks it
├── PrefectUnavailable      no Prefect server answers, or it lacks the deployments
├── RayUnavailable          Ray is not installed, or no cluster computes
└── RequestError            the API cannot answer a request
    ├── InvalidRequest      a parameter or value is invalid
    ├── NotFound            there is no such view, run, example or chart
    ├── NothingToShow       a run lacks the requested data
    ├── LimitExceeded       an answer exceeds a limit of time, memory or size
    ├── OutdatedCursor      the snapshot of a page was replaced
    ├── ServerBusy          no process is free to answer
    └── AccessDenied        the token is missing or wrong, or the caller is not local
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def one_line(error: BaseException) -> str:
    """The type and message of another library's error in one line, to quote in a message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def shortened(text: str, length: int = 100) -> str:
    """The beginning of a text of any length, to quote in a message; `...` marks an omission."""
    return text if len(text) <= length else f"{text[:length]}..."


def dotted_path(place: Sequence[int | str]) -> str:
    """The path of a field in a nested value: `explain.seeds.0`."""
    return ".".join(map(str, place))


def validation_message(
    problems: Sequence[Mapping[str, Any]],
    whole: str = "",
    name_of: Callable[[Mapping[str, Any]], str] | None = None,
) -> str:
    """The problems that pydantic found in a value, in one line.

        validation_message(error.errors())  # "rows: Input should be a valid integer; ..."

    `problems` is `ValidationError.errors()`. `name_of` names the place of a problem, for example by
    an option; the default is its path, or `whole` if no single field is wrong. If the name is
    empty, only the message is shown.
    """

    def line(problem: Mapping[str, Any]) -> str:
        name = name_of(problem) if name_of else dotted_path(problem["loc"]) or whole
        message = str(problem["msg"]).removeprefix("Value error, ")
        return f"{name}: {message}" if name else message

    return "; ".join(map(line, problems))


class PruneLakeError(Exception):
    """The base of all errors. The message is one line: the problem, its place and the remedy."""


class MissingExtra(PruneLakeError):
    """An optional package is not installed; the message names the extra that brings it."""


class InvalidSpec(PruneLakeError):
    """A sweep, an option or a log to import cannot be used."""


class ModelError(PruneLakeError):
    """An error about a model."""


class ModelNotFound(ModelError):
    """A model reference leads to no weights."""


class HubUnreachable(ModelError):
    """The hub does not answer, or the network does not reach it."""


class UnsupportedModel(ModelError):
    """The attention layers or MLPs of a model cannot be found or removed."""


class UnknownLayer(ModelError):
    """The model has no such layer or level."""


class ExportError(ModelError):
    """A checkpoint cannot be written, or answers differently from the model in the lake."""


class TaskError(PruneLakeError):
    """An error about a task or its data."""


class UnknownTask(TaskError):
    """The catalogue has no such task."""


class DatasetNotFound(TaskError):
    """Neither PRUNELAKE_DATA nor the hub has the rows of a task."""


class BadRow(TaskError):
    """A row lacks a column, or its label names no option."""


class EmptySelection(TaskError):
    """A row selection leaves no rows to evaluate."""


class ExampleTooLong(TaskError):
    """An example does not fit into the model's context."""


class LakeError(PruneLakeError):
    """An error about a lake."""


class CorruptFile(LakeError):
    """A file of the lake is not as it was written."""


class WrongFormat(LakeError):
    """A lake has another format version."""


class NoSnapshot(LakeError):
    """The lake has no snapshot of this version of PruneLake."""


class QueryError(LakeError):
    """DuckDB rejects the SQL."""


class InvalidCalibrator(PruneLakeError):
    """A calibrator cannot be applied, or the lake does not have it."""


class PrefectUnavailable(PruneLakeError):
    """No Prefect server answers, or it lacks PruneLake's deployments."""


class RayUnavailable(PruneLakeError):
    """Ray is not installed, or no Ray cluster answers and computes."""


class RequestError(PruneLakeError):
    """The API cannot answer a request; `choices` lists the valid values, if they are known."""

    def __init__(self, message: str, choices: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.choices = list(choices)


class InvalidRequest(RequestError):
    """A parameter or value is invalid."""


class NotFound(RequestError):
    """There is no such view, run, example or chart."""


class NothingToShow(RequestError):
    """A run lacks the requested data."""


class LimitExceeded(RequestError):
    """An answer exceeds a limit of time, memory or size."""


class OutdatedCursor(RequestError):
    """The snapshot of a page was replaced."""


class ServerBusy(RequestError):
    """No process is free to answer."""


class AccessDenied(RequestError):
    """The token is missing or wrong, or the caller is not on this machine."""
