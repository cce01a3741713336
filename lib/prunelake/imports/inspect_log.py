"""Logs of inspect_ai (`.json`, `.eval`), multiple choice with log-probabilities."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from pydantic import BaseModel, Field, ValidationError

from prunelake.errors import BadRow, InvalidSpec, one_line, validation_message
from prunelake.imports.imported import (
    EncodableText,
    EncodableValue,
    ImportedLog,
    LogProbability,
    Sample,
    write_logs,
)
from prunelake.lake.storage import Location
from prunelake.spec import content_hash
from prunelake.tasks.rows import OPTION_DELIMITER, Example

SOURCE = "inspect_ai"
ZIP_ZSTANDARD = 93  # a zip method that zipfile knows from Python 3.14 on
LOGPROBS_HINT = "evaluate with --logprobs --top-logprobs 20 --temperature 0"
# RuntimeError: nested too deep, encrypted, or packed in a way that zipfile does not know.
READ_ERRORS = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
SCORE_VALUES = {"C": True, "I": False, "N": False, 1: True, 0: False}


class TopToken(BaseModel):
    """A token that could have stood at a place of the answer."""

    token: str
    logprob: LogProbability


class AnswerToken(BaseModel):
    """A token of the answer, and the likeliest ones in its place."""

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
    """What a scorer says of an answer."""

    value: Any
    answer: str | None = None


class InspectSample(BaseModel):
    """The fields of a logged sample that are read; others may stand beside them."""

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
    paths: Mapping[int, Path],
    model: str | None = None,
    strategy: str = "",
) -> tuple[str, bool]:
    """Write the logs of each level as one run; its run_id, and whether the lake lacked it.

    Raises:
        InvalidSpec, BadRow: as `read_inspect` and `write_logs`.
        LakeError: the lake cannot be written.
    """
    logs = {level: read_inspect(path) for level, path in paths.items()}
    return write_logs(lake, logs, model, strategy)


def read_inspect(path: Path) -> ImportedLog:
    """The log of a task with the solver `multiple_choice` and the scorer `choice`.

    The options are the letters, and an option's log-likelihood is that of its letter in the place
    of the letter that the model answered with, given all that it wrote before. A sample whose log
    lacks that of any letter has no log-likelihoods: it is in the view `excluded` and in no mart.

    Raises:
        InvalidSpec: no such file, no log of inspect_ai, or one that did not succeed.
        BadRow: samples that are no multiple choice with one right answer, or whose scores
            contradict their log-probabilities; or a log without log-probabilities.
    """
    if not path.is_file():
        raise InvalidSpec(f"no file {path}; give a log that inspect_ai wrote, .json or .eval")
    header, records = _read_log(path)
    if header.get("status") != "success":
        raise InvalidSpec(f"{path}: status {header.get('status')!r}; import logs of finished runs")
    about = header["eval"]
    if not records:
        raise BadRow(f"{path} has no samples; log without --no-log-samples")
    samples: dict[str, Sample] = {}
    for number, value in enumerate(records):
        try:
            record = InspectSample.model_validate(value)
        except ValidationError as error:
            problem = validation_message(error.errors()[:1], whole="sample")
            raise BadRow(
                f"{path}, sample {number}, {problem}; it takes the samples of a "
                "multiple-choice task"
            ) from error
        if str(record.id) in samples:
            raise BadRow(f"{path}, sample {record.id}: logged twice; import a log of one epoch")
        samples[str(record.id)] = _sample(f"{path}, sample {record.id}", record)
    if all(sample.log_likelihoods is None for sample in samples.values()):
        raise BadRow(
            f"{path}: no sample has the log-probabilities of all its letters; {LOGPROBS_HINT}"
        )
    return ImportedLog(
        file=path,
        source=SOURCE,
        task=str(about["task"]),
        split="",
        model=str(about["model"]),
        revision="",
        dtype="",
        # A log has its samples in the order in which they happened to finish.
        samples=tuple(samples[key] for key in sorted(samples, key=lambda key: (len(key), key))),
        metadata={
            "packages": about.get("packages"),
            "task_version": about.get("task_version"),
        },
    )


def _sample(where: str, record: InspectSample) -> Sample:
    letters = ascii_uppercase[: len(record.choices)]
    target = record.target if isinstance(record.target, str) else ",".join(record.target)
    if not 2 <= len(record.choices) <= len(ascii_uppercase):
        raise BadRow(f"{where}: {len(record.choices)} choices; it takes 2 to 26")
    if len(target) != 1 or target not in letters:
        raise BadRow(f"{where}: target {target!r} is not one letter of {letters}")
    gold = letters.index(target)
    score = record.scores.get("choice")
    value = score.value if score else None
    is_logged_correct = SCORE_VALUES.get(value) if isinstance(value, str | int | float) else None
    if score is None or is_logged_correct is None:
        raise BadRow(f"{where}: no score C, I or N of the scorer `choice`")
    answered = score.answer or ""
    answer = letters.index(answered) if len(answered) == 1 and answered in letters else None
    if is_logged_correct != (answer == gold):
        raise BadRow(f"{where}: scored {score.value}, with answer {answered!r} to target {target}")
    sample = Sample(
        example=Example(
            example_id=f"sample:{record.id}",
            prompt="\n\n".join(_message_text(where, record, m) for m in record.messages[:-1]),
            options=tuple(OPTION_DELIMITER + letter for letter in letters),
            gold=gold,
        ),
        log_likelihoods=_log_likelihoods(record.output, letters, answered),
        option_bytes=(1,) * len(letters),
        source_hash=content_hash([record.input, record.choices, target]),
        answer=answer,
    )
    if sample.prediction != answer:
        raise BadRow(
            f"{where}: answered {answered}, but {letters[sample.prediction or 0]} is more likely: "
            "an answer that was drawn, or shuffled choices; evaluate with --temperature 0"
        )
    return sample


def _log_likelihoods(output: Output, letters: str, answered: str) -> tuple[float, ...] | None:
    logprobs = output.choices[0].logprobs if output.choices else None
    places = [
        token for token in (logprobs.content if logprobs else []) if token.token.strip() == answered
    ]
    if not answered or not places:
        return None
    place = places[-1]
    # ` A` and `A` are different tokens: the letters compete in the form of the one written.
    likely = {top.token: top.logprob for top in place.top_logprobs or []}
    forms = [place.token.replace(answered, letter) for letter in letters]
    return tuple(likely[form] for form in forms) if likely.keys() >= set(forms) else None


def _message_text(where: str, record: InspectSample, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadRow(f"{where}: a message of its prompt is not text alone")
    # Long texts may be kept apart, once for all that quote them.
    return "".join(
        record.attachments.get(str(text).removeprefix("attachment://"), str(text)) for text in texts
    )


def _read_log(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The header and the samples."""
    try:
        if zipfile.is_zipfile(path):
            members = {name: json.loads(data) for name, data in _archive_members(path)}
            header = members.pop("header.json", None)
            samples: Any = [*members.values()]
        else:
            header = json.loads(path.read_bytes())
            samples = header.get("samples") if isinstance(header, dict) else None
    except READ_ERRORS as error:
        raise InvalidSpec(f"{path} cannot be read as a log: {one_line(error)}") from error
    about = header.get("eval") if isinstance(header, dict) else None
    named = [about.get(name) for name in ("task", "model")] if isinstance(about, dict) else [None]
    if not all(isinstance(name, str) and name for name in named):
        raise InvalidSpec(f"{path} is no log of inspect_ai: it has no header with task and model")
    return header, samples if isinstance(samples, list) else []


def _archive_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.filename == "header.json" or info.filename.startswith("samples/"):
                is_new = info.compress_type == ZIP_ZSTANDARD
                yield (
                    info.filename,
                    _decompress_zstandard(stream, info) if is_new else archive.read(info),
                )


def _decompress_zstandard(stream: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    stream.seek(info.header_offset)
    # The last fields of a member's header are the lengths of its name and its extra field.
    stream.seek(sum(struct.unpack("<HH", stream.read(30)[26:])), 1)
    packed = pa.BufferReader(stream.read(info.compress_size))
    data: bytes = pa.CompressedInputStream(packed, "zstd").read()
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is not what was written (CRC-32 differs)")
    return data
