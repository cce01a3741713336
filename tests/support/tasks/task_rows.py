"""One made-up row for each task of the catalogue, and data folders with such rows."""

import json
from pathlib import Path
from typing import Any

from prunelake.tasks.catalogue import get_task
from prunelake.tasks.rows import Example

ROWS: dict[str, tuple[dict[str, Any], Example]] = {
    "boolq": (
        {"question": "can a kite fly indoors", "passage": "Kite -- Kites need wind.", "label": 0},
        Example(
            "validation:0",
            "Kite -- Kites need wind.\nQuestion: can a kite fly indoors?\nAnswer:",
            (" no", " yes"),
            0,
        ),
    ),
    "rte": (
        {"sentence1": "Ada sold her boat.", "sentence2": "Ada had a boat.", "label": 0},
        Example(
            "validation:0",
            "Ada sold her boat.\nQuestion: Ada had a boat. True or False?\nAnswer:",
            (" True", " False"),
            0,
        ),
    ),
    "arc_challenge": (
        {
            "id": "x1",
            "question": "What {melts} wax?",
            "choices": {"text": ["heat", "shade", "time"], "label": ["1", "2", "3"]},
            "answerKey": "1",
        },
        Example("test:0", "Question: What {melts} wax?\nAnswer:", (" heat", " shade", " time"), 0),
    ),
    "arc_easy": (
        {
            "id": "x2",
            "question": "What do roots take up?",
            "choices": {"text": ["light", "sound", "water"], "label": ["A", "B", "C"]},
            "answerKey": "C",
        },
        Example(
            "test:0",
            "Question: What do roots take up?\nAnswer:",
            (" light", " sound", " water"),
            2,
        ),
    ),
    "openbookqa": (
        {
            "id": "x3",
            "question_stem": "A puddle shrinks at noon because",
            "choices": {"text": ["it evaporates", "it freezes"], "label": ["A", "B"]},
            "answerKey": " A",
        },
        Example("test:0", "A puddle shrinks at noon because", (" it evaporates", " it freezes"), 0),
    ),
    "sst2": (
        {"sentence": "a sweet , silly film ", "label": 1},
        Example(
            "validation:0",
            "a sweet , silly film \nQuestion: Is this sentence positive or negative?\nAnswer:",
            (" negative", " positive"),
            1,
        ),
    ),
    "rotten_tomatoes": (
        {"text": "nobody needed this sequel .", "label": 0},
        Example(
            "test:0",
            "nobody needed this sequel .\n"
            "Question: Is this sentence positive or negative?\nAnswer:",
            (" negative", " positive"),
            0,
        ),
    ),
    "tweet_eval": (
        {"text": "bus on time, day saved", "label": "2"},
        Example(
            "validation:0",
            "bus on time, day saved\n"
            "Question: Is this sentence negative, neutral or positive?\nAnswer:",
            (" negative", " neutral", " positive"),
            2,
        ),
    ),
}
"""For each task a row in the columns of its dataset, and the example that it becomes."""


def write_rows(data_folder: Path, name: str, *rows: Any) -> Path:
    """Write rows as the file of a task in a data folder; return its path."""
    path = data_folder / get_task(name).file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_sst2_rows(data_folder: Path, count: int) -> None:
    """Write rows of sst2: row n has the text `film n`."""
    write_rows(
        data_folder, "sst2", *({"sentence": f"film {n}", "label": n % 2} for n in range(count))
    )


def row_numbers(examples: list[Example]) -> list[int]:
    """The row numbers in the ids of examples of a split `validation`."""
    return [int(e.example_id.removeprefix("validation:")) for e in examples]
