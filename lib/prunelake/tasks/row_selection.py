"""Select rows of a split: parse a selection from the command line, and apply it."""

import json
import re
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from prunelake.errors import EmptySelection, InvalidSpec, validation_message
from prunelake.spec import DEFAULT_ROW_COUNT, Rows

ROW_FORMS = (
    "200 (the first 200), sample:200 or sample:200:7 (200 drawn with seed 7), numbers:3,5,8, "
    "or a JSON file with a list of row numbers or an object from task to list, "
    "optionally followed by :24 (its first 24)"
)


def parse_rows(text: str, task: str) -> Rows:
    """The row selection that a user wrote on the command line, for the task of this name.

        parse_rows("sample:200:7", "boolq")

    Raises:
        InvalidSpec: the text has no known form (the message lists the forms), or the file is bad.
    """
    if re.fullmatch(r"[0-9]+", text):
        return Rows(first=int(text))
    if match := re.fullmatch(r"sample:([0-9]+)(?::([0-9]+))?", text):
        try:
            return Rows(sample=int(match[1]), seed=int(match[2] or 0))
        except ValidationError as error:
            problem = validation_message(error.errors()[:1], name_of=lambda _: "")
            raise InvalidSpec(f"rows {text!r}: {problem}") from error
    if match := re.fullmatch(r"numbers:([0-9]+(?:,[0-9]+)*)", text):
        return Rows(numbers=tuple(int(n) for n in match[1].split(",")))
    path, first = text, None
    if match := re.fullmatch(r"(.+):([0-9]+)", text):
        path, first = match[1], int(match[2])
    # A mistyped list of numbers can be too long for the name of a file.
    if text.startswith(("sample:", "numbers:")) or not Path(path).is_file():
        raise InvalidSpec(f"rows {text!r}: no such form or file; write {ROW_FORMS}")
    return Rows(numbers=_read_row_numbers(Path(path), task, first))


def select_rows(rows: Rows, row_count: int, split_name: str) -> list[int]:
    """The numbers of the selected rows of a split that has `row_count` rows.

    A `sample` is the beginning of a random order of all rows, so a larger sample begins with each
    smaller sample of the same seed. `numbers` keep their order. `split_name` begins error messages.

    Raises:
        EmptySelection: the selection asks for no row.
        InvalidSpec: it asks for rows that the split does not have, or twice for the same row.
    """
    if 0 in (rows.first, rows.sample) or rows.numbers == ():
        raise EmptySelection(f"{split_name}: 0 rows selected; ask for 1 to {row_count}")
    for count in (rows.first, rows.sample):
        if count is not None and count > row_count:
            raise InvalidSpec(f"{split_name}: {count} rows asked for; it has {row_count}")
    if rows.first is not None:
        return list(range(rows.first))
    if rows == Rows():
        return list(range(min(DEFAULT_ROW_COUNT, row_count)))
    if rows.sample is not None:
        order: list[int] = np.random.default_rng(rows.seed).permutation(row_count).tolist()
        return order[: rows.sample]
    seen: set[int] = set()
    for number in rows.numbers or ():
        if not 0 <= number < row_count:
            raise InvalidSpec(f"{split_name}: no row {number}; it has {row_count} rows, from 0")
        if number in seen:
            raise InvalidSpec(f"{split_name}: row {number} is asked for more than once")
        seen.add(number)
    return list(rows.numbers or ())


def _read_row_numbers(path: Path, task: str, first: int | None) -> tuple[int, ...]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidSpec(f"rows file {path}: not JSON ({error}); write {ROW_FORMS}") from error
    if isinstance(value, dict):
        if task not in value:
            raise InvalidSpec(f"rows file {path}: no rows for {task}; it has {', '.join(value)}")
        value = value[task]
    if not isinstance(value, list) or any(type(n) is not int for n in value):
        raise InvalidSpec(f"rows file {path}: not a list of row numbers; write {ROW_FORMS}")
    if first is not None and first > len(value):
        raise InvalidSpec(f"rows file {path}: {first} rows asked for, but it lists {len(value)}")
    return tuple(value[:first])
