"""Calibration text: what a model reads while the importance of its layers is measured."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prunelake.errors import DatasetNotFound, InvalidSpec
from prunelake.tasks.catalogue import CATALOG_FOLDER
from prunelake.tasks.hub import download_dataset_file, read_json_lines, require_data_file
from prunelake.tasks.rows import text_value


def calibration_text(source: str, data: Path | None, minimum_characters: int) -> str:
    """Whole documents of `source`, blank lines between them, until there are enough characters.

    `bundled` is prose that the package carries; `c4` is the sample in the folder `data` if that is
    given, else the first shard of the English training split on the hub; anything else is the path
    of a `.txt` file, whose paragraphs are its documents, or of a `.jsonl` file with a column
    `text`. A source that has less is returned whole.

    Raises:
        DatasetNotFound: no such file, or the hub cannot be reached.
        InvalidSpec: a file of another kind.
        BadRow: a line without a text.
    """
    if source == "bundled":
        documents = _paragraphs(CATALOG_FOLDER / "calibration.txt")
    elif source == "c4":
        documents = _jsonl_texts(_c4_file(data))
    elif not Path(source).is_file():
        raise DatasetNotFound(
            f"no calibration text {source!r}; choose bundled, c4, or a .txt or .jsonl file"
        )
    elif source.endswith(".txt"):
        documents = _paragraphs(Path(source))
    elif source.endswith(".jsonl"):
        documents = _jsonl_texts(Path(source))
    else:
        raise InvalidSpec(f"calibration text {source!r} is neither a .txt nor a .jsonl file")
    return _join_until(documents, minimum_characters)


def _join_until(documents: Iterable[str], minimum_characters: int) -> str:
    taken: list[str] = []
    length = 0
    for document in documents:
        taken.append(document)
        length += len(document) + (2 if length else 0)
        if length >= minimum_characters:
            break
    return "\n\n".join(taken)


def _paragraphs(path: Path) -> Iterator[str]:
    try:
        paragraphs = re.split(r"\n\s*\n", path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"calibration text {path} is not UTF-8 ({error})") from error
    return (stripped for p in paragraphs if (stripped := p.strip()))


def _jsonl_texts(path: Path) -> Iterator[str]:
    for number, record in enumerate(read_json_lines(path)):
        yield text_value(record, "text", f"{path}, row {number}")


def _c4_file(data: Path | None) -> Path:
    file = "calibration/c4_en_sample.jsonl"
    if data is None:
        return download_dataset_file("allenai/c4", "en/c4-train.00000-of-01024.json.gz", None, file)
    require_data_file(data / file, "calibration text c4")
    return data / file
