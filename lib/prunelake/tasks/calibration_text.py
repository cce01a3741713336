"""Calibration text: a model reads this text while the importance of its layers is measured."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prunelake.errors import DatasetNotFound, InvalidSpec
from prunelake.tasks.catalogue import CATALOGUE_FOLDER
from prunelake.tasks.hub import download_dataset_file, first_data_file, read_json_lines
from prunelake.tasks.rows import text_value


def calibration_text(source: str, data_folder: Path | None, minimum_characters: int) -> str:
    """The first documents of a source that together reach `minimum_characters`, else all documents.

    Documents are never cut; blank lines separate them.

    Args:
        source: `bundled` (prose in this package), `c4`, the path of a `.txt` file, whose paragraphs
            are the documents, or the path of a `.jsonl` file with a column `text`.
        data_folder: the folder with the sample of `c4`; None means the first shard of its English
            training split on the hub.
        minimum_characters: the number of characters to reach.

    Raises:
        DatasetNotFound: the file does not exist, or the hub cannot be reached.
        InvalidSpec: the file has another kind, or its text is not UTF-8.
        BadRow: a line has no text.
    """
    if source == "bundled":
        documents = _paragraphs(CATALOGUE_FOLDER / "calibration.txt")
    elif source == "c4":
        documents = _jsonl_texts(_c4_file(data_folder))
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
    chosen: list[str] = []
    length = 0
    for document in documents:
        chosen.append(document)
        length += len(document) + (2 if length else 0)
        if length >= minimum_characters:
            break
    return "\n\n".join(chosen)


def _paragraphs(path: Path) -> Iterator[str]:
    try:
        paragraphs = re.split(r"\n\s*\n", path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"calibration text {path} is not UTF-8 ({error})") from error
    return (stripped for p in paragraphs if (stripped := p.strip()))


def _jsonl_texts(path: Path) -> Iterator[str]:
    for number, record in enumerate(read_json_lines(path)):
        yield text_value(record, "text", f"{path}, row {number}")


def _c4_file(data_folder: Path | None) -> Path:
    file = "calibration/c4_en_sample.jsonl"
    if data_folder is None:
        return download_dataset_file("allenai/c4", "en/c4-train.00000-of-01024.json.gz", None, file)
    return first_data_file([data_folder / file], "calibration text c4")
