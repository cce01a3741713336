"""Files of datasets: from the hub, or from a data folder."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from prunelake.errors import BadRow, DatasetNotFound, one_line

PARQUET_REVISION = "refs/convert/parquet"  # the hub's own conversion of every public dataset


def read_json_lines(path: Path) -> Iterator[Any]:
    """The JSON values of a file of lines, packed by gzip or not.

    Raises:
        BadRow: a line that is no JSON.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadRow(f"{path}, row {number}: not JSON ({error})") from error


def require_data_file(path: Path, what: str) -> None:
    """Insist on a file of the data folder.

    Raises:
        DatasetNotFound: it is not there.
    """
    if not path.is_file():
        raise DatasetNotFound(
            f"{what}: no file {path}; put it there, or unset PRUNELAKE_DATA to read the hub"
        )


def download_dataset_file(repo: str, filename: str, revision: str | None, file: str) -> Path:
    """A file of a dataset on the hub; in the data folder it would be `file`.

    Raises:
        DatasetNotFound: the hub cannot be reached or does not have it.
    """
    try:
        return Path(hf_hub_download(repo, filename, repo_type="dataset", revision=revision))
    # The hub's client lets through errors of its own, of HTTP, of files and of values.
    except Exception as error:
        raise DatasetNotFound(
            f"{filename} of dataset {repo} cannot be had from the hub ({one_line(error)}); "
            f"go online, or set PRUNELAKE_DATA to a folder with {file}"
        ) from error
