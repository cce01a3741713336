"""Import logs of inspect_ai (`.json`, `.eval`), multiple choice with log-probabilities."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from pydantic import BaseModel, Field, ValidationError

from prunelake.errors import BadRow, InvalidSpec, one_line, shortened, validation_message
from prunelake.identity import content_hash
from prunelake.imports.import_logs import import_logs
from prunelake.imports.imported_log import (
    EncodableText,
    EncodableValue,
    ImportedLog,
    LogProbability,
    Sample,
)
from prunelake.imports.imported_run import LabelledFile
from prunelake.lake.storage.location import Location
from prunelake.tasks.rows import OPTION_DELIMITER, Example

SOURCE = "inspect_ai"
ZIP_ZSTANDARD = 93  # a compression method that zipfile supports from Python 3.14 on
LOGPROBS_HINT = "evaluate with --logprobs --top-logprobs 20 --temperature 0"
# RuntimeError: nested too deeply, encrypted, or compressed by a method that zipfile lacks.
READ_ERRORS = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
SCORE_VALUES = {"C": True, "I": False, "N": False, 1: True, 0: False}


class TopToken(BaseModel):
    """A candidate for one token of the answer."""

    token: str
    logprob: LogProbability


class AnswerToken(BaseModel):
    """A token of the answer, and the most likely candidates in its place."""

    token: str
    top_logprobs: list[TopToken] | None = None


class Logprobs(BaseModel):
    """The tokens of an answer."""

    content: list[AnswerToken]


class Choice(BaseModel):
    """One answer of the model."""

    logprobs: Logprobs | None = None


class Output(BaseModel):
    """The answers of the model."""

    choices: list[Choice] = []


class Score(BaseModel):
    """The score that a scorer gave to an answer."""

    value: Any
    answer: str | None = None


class InspectSample(BaseModel):
    """The fields of a logged sample that an import reads; a log has more."""

    id: int | str
    epoch: int
    input: EncodableValue
    choices: list[EncodableText]
    target: str | list[str]
    messages: Annotated[list[dict[str, EncodableValue]], Field(min_length=2)]
    output: Output
    scores: dict[str, Score]
    attachments: dict[str, EncodableText] = {}


def import_inspect(
    lake: Location,
    paths: Mapping[int, Path] | Sequence[LabelledFile],
    model: str | None = None,
    strategy: str = "",
) -> tuple[str, bool]:
    """Write the logs of all levels as one run; return its id, and whether the run is new.

    `paths` has the log of each level, or those of a baseline and its candidates. `model` is the
    name of the model; by default the name in the log of level 0. `strategy` is the name of the
    strategy that chose the removed layers, if known.

    Raises:
        InvalidSpec, BadRow: as `read_inspect` and `import_logs`.
        LakeError: the lake cannot be written.
    """
    return import_logs(lake, paths, read_inspect, model, strategy)


def read_inspect(path: Path) -> ImportedLog:
    """The log at `path`, of a task with the solver `multiple_choice` and the scorer `choice`.

    The options are letters. The log-likelihood of an option is the log-probability of its letter at
    the position where the model wrote its answer, given the text before. A sample whose log lacks
    the log-probability of a letter has no log-likelihoods: the view `excluded` shows it, and no
    metric uses it, nor a sample with a log-probability of -inf.

    Raises:
        InvalidSpec: no such file, no log of inspect_ai, or a log of an unfinished run.
        BadRow: samples that are not multiple choice with one right answer, or whose scores
            contradict their log-probabilities; or a log without log-probabilities.
    """
    if not path.is_file():
        raise InvalidSpec(f"no file {path}; give a log that inspect_ai wrote, .json or .eval")
    header, records = _read_log(path)
    if header.get("status") != "success":
        raise InvalidSpec(f"{path}: status {header.get('status')!r}; import logs of finished runs")
    description = header["eval"]
    if not records:
        raise BadRow(f"{path} has no samples; log without --no-log-samples")
    samples: dict[str, Sample] = {}
    for number, value in enumerate(records):
        try:
            record = InspectSample.model_validate(value)
        except ValidationError as error:
            problem = validation_message(error.errors()[:1], whole="sample")
            raise BadRow(
                f"{path}, sample {number}, {problem}; an import needs samples of a "
                "multiple-choice task"
            ) from error
        if str(record.id) in samples:
            raise BadRow(f"{path}, sample {record.id}: logged twice; import a log of one epoch")
        samples[str(record.id)] = _sample(f"{path}, sample {record.id}", record)
    if all(sample.confidence is None for sample in samples.values()):
        raise BadRow(
            f"{path}: no sample has finite log-probabilities of all its letters; {LOGPROBS_HINT}, "
            "or bring the answers alone by `prunelake import predictions`"
        )
    return ImportedLog(
        file=path,
        source=SOURCE,
        task=str(description["task"]),
        split="",
        model=str(description["model"]),
        revision="",
        dtype="",
        # A log lists its samples in the order in which they finished.
        samples=tuple(samples[key] for key in sorted(samples, key=lambda key: (len(key), key))),
        metadata={
            "packages": description.get("packages"),
            "task_version": description.get("task_version"),
        },
    )


def _sample(where: str, record: InspectSample) -> Sample:
    letters = ascii_uppercase[: len(record.choices)]
    target = record.target if isinstance(record.target, str) else ",".join(record.target)
    if not 2 <= len(record.choices) <= len(ascii_uppercase):
        raise BadRow(f"{where}: {len(record.choices)} choices; an import needs 2 to 26")
    if len({choice.strip() for choice in record.choices}) == 1:
        choice = shortened(record.choices[0])
        raise BadRow(f"{where}: all {len(record.choices)} choices are {choice!r}")
    if len(target) != 1 or target not in letters:
        raise BadRow(f"{where}: target {shortened(target)!r} is not one letter of {letters}")
    gold = letters.index(target)
    score = record.scores.get("choice")
    value = score.value if score else None
    is_logged_correct = SCORE_VALUES.get(value) if isinstance(value, str | int | float) else None
    if score is None or is_logged_correct is None:
        raise BadRow(f"{where}: no score C, I or N of the scorer `choice`")
    answer_text = score.answer or ""
    is_letter = len(answer_text) == 1 and answer_text in letters
    answer = letters.index(answer_text) if is_letter else None
    if is_logged_correct != (answer == gold):
        raise BadRow(
            f"{where}: scored {score.value}, but its answer is {answer_text!r} and its target is "
            f"{target}"
        )
    sample = Sample(
        example=Example(
            example_id=f"sample:{record.id}",
            prompt="\n\n".join(_message_text(where, record, m) for m in record.messages[:-1]),
            options=tuple(OPTION_DELIMITER + letter for letter in letters),
            gold=gold,
        ),
        log_likelihoods=_log_likelihoods(record.output, letters, answer_text),
        option_bytes=(1,) * len(letters),
        source_hash=content_hash([record.input, record.choices, target]),
        answer=answer,
    )
    if sample.prediction != answer:
        raise BadRow(
            f"{where}: the answer is {answer_text}, but {letters[sample.prediction or 0]} is more "
            "likely: the answer was sampled or the choices were shuffled; evaluate with "
            "--temperature 0"
        )
    return sample


def _log_likelihoods(output: Output, letters: str, answer: str) -> tuple[float, ...] | None:
    logprobs = output.choices[0].logprobs if output.choices else None
    tokens = logprobs.content if logprobs else []
    answer_tokens = [token for token in tokens if token.token.strip() == answer]
    if not answer or not answer_tokens:
        return None
    last = answer_tokens[-1]
    # ` A` and `A` are different tokens: compare the letters in the form that the model wrote.
    logprob = {top.token: top.logprob for top in last.top_logprobs or []}
    forms = [last.token.replace(answer, letter) for letter in letters]
    return tuple(logprob[form] for form in forms) if logprob.keys() >= set(forms) else None


def _message_text(where: str, record: InspectSample, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadRow(f"{where}: a message of its prompt is not only text")
    # A log may store a long text once, as an attachment that messages refer to.
    return "".join(
        record.attachments.get(str(text).removeprefix("attachment://"), str(text)) for text in texts
    )


def _read_log(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The header and the samples of a log."""
    try:
        if zipfile.is_zipfile(path):
            members = {name: json.loads(data) for name, data in archive_members(path)}
            header = members.pop("header.json", None)
            samples: Any = [*members.values()]
        else:
            header = json.loads(path.read_bytes())
            samples = header.get("samples") if isinstance(header, dict) else None
    except READ_ERRORS as error:
        raise InvalidSpec(f"{path} cannot be read as a log: {one_line(error)}") from error
    description = header.get("eval") if isinstance(header, dict) else None
    fields = description if isinstance(description, dict) else {}
    names = [fields.get(name) for name in ("task", "model")]
    if not all(isinstance(name, str) and name for name in names):
        raise InvalidSpec(
            f"{path} is not a log of inspect_ai: it has no header with task and model"
        )
    return header, samples if isinstance(samples, list) else []


def archive_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name and content of the header and of each sample in a log `.eval`.

    Raises:
        OSError, RuntimeError, zipfile.BadZipFile: the archive is damaged or cannot be read.
    """
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.filename == "header.json" or info.filename.startswith("samples/"):
                is_zstandard = info.compress_type == ZIP_ZSTANDARD
                yield (
                    info.filename,
                    _decompress_zstandard(stream, info) if is_zstandard else archive.read(info),
                )


def _decompress_zstandard(stream: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    stream.seek(info.header_offset)
    # The last two fields of a member's header are the lengths of its name and its extra field.
    stream.seek(sum(struct.unpack("<HH", stream.read(30)[26:])), 1)
    compressed = pa.BufferReader(stream.read(info.compress_size))
    data: bytes = pa.CompressedInputStream(compressed, "zstd").read()
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged (its CRC-32 differs)")
    return data
