"""Read the files of datasets, from the hub or from a data folder."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prunelake.errors import BadRow, DatasetNotFound, one_line

PARQUET_REVISION = "refs/convert/parquet"  # the hub's own conversion of every public dataset


def read_json_lines(path: Path) -> Iterator[Any]:
    """The JSON value of each line that is not blank; a `.gz` file is decompressed.

    Raises:
        BadRow: a line is not JSON.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(line for line in stream if line.strip()):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadRow(f"{path}, row {number}: not JSON ({error})") from error


def first_data_file(paths: Sequence[Path], purpose: str) -> Path:
    """The first of these files of a data folder that exists; `purpose` begins the error message.

    Raises:
        DatasetNotFound: none of them exists.
    """
    for path in paths:
        if path.is_file():
            return path
    files = " or ".join(map(str, paths))
    raise DatasetNotFound(
        f"{purpose}: no file {files}; put it there, or unset PRUNELAKE_DATA to read the hub"
    )


def download_dataset_file(repo: str, filename: str, revision: str | None, file: str) -> Path:
    """The local copy of a file of a dataset on the hub, downloaded if necessary.

    `file` is the path of the same rows below a data folder; the error suggests it.

    Raises:
        DatasetNotFound: the hub cannot be reached, or does not have the file.
    """
    from huggingface_hub import hf_hub_download  # slow, and most tasks need no hub

    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset", revision=revision))
    # The hub's client raises many unrelated types: its own, and errors of HTTP, files and values.
    except Exception as error:
        raise DatasetNotFound(
            f"{filename} of dataset {repo} cannot be fetched from the hub ({one_line(error)}); "
            f"go online, or set PRUNELAKE_DATA to a folder with {file}"
        ) from error
