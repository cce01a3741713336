"""The files that `prunelake import` reads, from its options: LEVEL=PATH and LABEL=FILE."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunelake.errors import InvalidSpec

if TYPE_CHECKING:
    from prunelake.imports.imported_run import LabelledFile

    Logs = Mapping[int, Path] | Sequence[LabelledFile]


def _logs_by_level(path: Path | None, levels: list[str] | None) -> dict[int, Path]:
    """The log of each level; `path` is the log of level 0.

    Raises:
        InvalidSpec: no log, a text that is not LEVEL=PATH, or two logs of one level.
    """
    pairs = [] if path is None else [("0", str(path))]
    for text in levels or []:
        number, sign, file = text.partition("=")
        if not (sign and file and number.isascii() and number.isdecimal()):
            raise InvalidSpec(f"--level {text!r}: write LEVEL=PATH, like 4=logs/level_4")
        pairs.append((number, file))
    logs = {int(number): Path(file) for number, file in pairs}
    if not logs or len(logs) < len(pairs):
        raise InvalidSpec("give one log for each level: PATH, or --level 0=PATH --level 4=PATH")
    return logs


def logs_of_options(
    path: Path | None,
    levels: list[str] | None,
    baseline: str | None,
    candidates: list[str] | None,
) -> "Logs":
    """The logs of removal levels, or those of a baseline and its candidates.

    Raises:
        InvalidSpec: both kinds, or as `_logs_by_level` and `labelled_files`.
    """
    if baseline is None and not candidates:
        return _logs_by_level(path, levels)
    if baseline is None or path is not None or levels:
        raise InvalidSpec(
            "give either removal levels, PATH and --level, or --baseline and --candidate"
        )
    return labelled_files(baseline, candidates or [])


def labelled_files(baseline: str, candidates: Sequence[str]) -> list["LabelledFile"]:
    """The files in LABEL=FILE[,NAME=VALUE...]: the baseline, then the candidates.

    Raises:
        InvalidSpec: another text.
    """
    from prunelake.imports.imported_run import LabelledFile

    files = []
    for option, text in [("--baseline", baseline), *(("--candidate", c) for c in candidates)]:
        label, rest = split_option(option, text, "LABEL=FILE")
        settings = {}
        while match := re.fullmatch(r"(.+),(dtype|model|revision)=([^,=]*)", rest):
            rest, name, value = match.groups()
            settings[name] = value
        files.append(LabelledFile(label=label, path=Path(rest), **settings))
    return files


def split_option(option: str, text: str, form: str) -> tuple[str, str]:
    """The name and the value in NAME=VALUE; `form` is how the error writes them.

    Raises:
        InvalidSpec: another text.
    """
    name, _, value = text.partition("=")
    if not (name.strip() and value.strip()):
        raise InvalidSpec(f"{option} {text!r}: write {form}")
    return name.strip(), value.strip()
