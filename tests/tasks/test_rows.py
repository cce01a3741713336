import hashlib
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import BadRow, DatasetNotFound
from prunelake.spec import Rows
from prunelake.tasks.catalogue import GoldColumn, Task, get_task
from prunelake.tasks.row_selection import parse_rows
from prunelake.tasks.rows import Example, build_example, data_hash, load_examples
from tests.support.tasks.task_rows import ROWS, row_numbers, write_rows

NO_OPTION = "names no option; give a position from 0 to 1, a letter from A to B, or the text of an"

OWN = Task(name="own", prompt="{q}", options="o", gold=GoldColumn(column="g"), bundled="rows.jsonl")

# The first row of each real dataset: start and end of its prompt, its first and its gold option.
FIRST_ROWS = {
    "boolq": (
        "Ethanol fuel -- All biomass goes through",
        "producing gasoline.\nQuestion: does ethanol take more energy make that produces?\nAnswer:",
        " no",
        0,
    ),
    "rte": (
        "Dana Reeve, the widow of the actor",
        "Christopher Reeve Foundation.\n"
        "Question: Christopher Reeve had an accident. True or False?\nAnswer:",
        " True",
        1,
    ),
    "arc_challenge": (
        "Question: An astronomer observes",
        "most likely effect of this increase in rotation?\nAnswer:",
        " Planetary density will decrease.",
        2,
    ),
    "arc_easy": (
        "Question: Which statement best explains",
        "the foundation of most food webs?\nAnswer:",
        " Sunlight is the source of energy for nearly all ecosystems.",
        0,
    ),
    "openbookqa": (
        "A person wants to start saving money",
        "the best way to save money is to",
        " make more phone calls",
        1,
    ),
    "sst2": (
        "it 's a charming",
        "affecting journey . \nQuestion: Is this sentence positive or negative?\nAnswer:",
        " negative",
        1,
    ),
    "rotten_tomatoes": (
        "lovingly photographed",
        "without stickiness .\nQuestion: Is this sentence positive or negative?\nAnswer:",
        " negative",
        1,
    ),
    "tweet_eval": (
        "Dark Souls 3",
        "Embrace the darkness.\nQuestion: Is this sentence negative, neutral or positive?\nAnswer:",
        " negative",
        1,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_an_example(name: str, tmp_path: Path) -> None:
    row, example = ROWS[name]
    write_rows(tmp_path, name, row)
    assert load_examples(get_task(name), Rows(first=1), tmp_path) == [example]


@pytest.mark.parametrize("name", FIRST_ROWS)
def test_the_first_row_of_the_real_data(name: str, shared: Path) -> None:
    start, end, option, gold = FIRST_ROWS[name]
    (example,) = load_examples(get_task(name), Rows(first=1), shared / "data")
    assert example.prompt.startswith(start)
    assert example.prompt.endswith(end)
    assert example.options[0] == option
    assert example.gold == gold


def test_every_row_of_the_real_data_is_an_example(shared: Path) -> None:
    sizes = {"arc_challenge": 1172, "openbookqa": 500, "sst2": 872, "tweet_eval": 2000}
    for name, size in sizes.items():
        examples = load_examples(get_task(name), Rows(first=size), shared / "data")
        assert all(0 <= e.gold < len(e.options) for e in examples)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sst2", {"label": None}, "row 0, column label: no value; the row has sentence, label"),
        ("sst2", {"label": -1}, f"row 0, column label: -1 {NO_OPTION}"),
        ("sst2", {"label": 2}, f"row 0, column label: 2 {NO_OPTION}"),
        ("sst2", {"label": True}, f"row 0, column label: True {NO_OPTION}"),
        ("sst2", {"label": "good"}, f"row 0, column label: 'good' {NO_OPTION}"),
        ("sst2", {"sentence": None}, "row 0, column sentence: no value; the row has sentence, la"),
        ("sst2", {"sentence": 7}, "row 0, column sentence: 7 is not a text"),
        ("sst2", {"sentence": " "}, "row 0, column sentence: ' ' is not a text"),
        ("arc_easy", {"answerKey": "D"}, "row 0, column answerKey: 'D' is not one of A, B, C"),
        ("arc_easy", {"choices": {"label": ["A"]}}, "row 0, column choices.text: no value; the r"),
        ("arc_easy", {"choices": "A"}, "row 0, column choices.text: no value; the row has "),
        (
            "arc_easy",
            {"choices": {"text": "ab", "label": ["A", "B"]}},
            "row 0, column choices.text: 'ab' is not a list",
        ),
        (
            "arc_easy",
            {"choices": {"text": ["a", None], "label": ["A", "B"]}},
            "row 0, column choices.text: None is not a text",
        ),
        (
            "arc_easy",
            {"choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"},
            "row 0, column choices.text: 1 options; a question has at least 2, or leave the row",
        ),
        (
            "arc_easy",
            {"choices": {"text": ["a", "b", "a "], "label": ["A", "B", "C"]}},
            "row 0, column choices.text: the option 'a' appears twice",
        ),
        (
            "arc_easy",
            {"choices": {"text": ["a", "b", "c"], "label": ["A", "B"]}},
            "row 0, column choices.label: 2 labels for 3 options",
        ),
    ],
)
def test_a_bad_row_names_file_row_and_column(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path, name, ROWS[name][0] | change)
    with pytest.raises(BadRow) as caught:
        load_examples(get_task(name), Rows(first=1), tmp_path)
    assert str(caught.value).startswith(f"{path}, {message}")


@pytest.mark.parametrize(
    ("options", "gold", "expected"),
    [
        (["no", "yes"], 1, 1),
        (["no", "yes"], "1", 1),
        (["no", "yes"], "b", 1),
        (["no", "yes"], "yes ", 1),
        (["1", "2"], 1, 1),  # a number without quotes is a position
        (["B", "A"], 0, 0),
    ],
)
def test_gold_is_a_position_a_letter_or_a_text(
    options: list[str], gold: object, expected: int
) -> None:
    record = {"q": "?", "o": options, "g": gold}
    assert build_example(OWN, Path("rows.jsonl"), 0, record).gold == expected


@pytest.mark.parametrize(("options", "gold"), [(["1", "2"], "1"), (["B", "A"], "A")])
def test_a_gold_that_names_two_options_is_refused(options: list[str], gold: str) -> None:
    with pytest.raises(BadRow, match=r"rows\.jsonl, row 0, column g: '.' may be an option's text"):
        build_example(OWN, Path("rows.jsonl"), 0, {"q": "?", "o": options, "g": gold})


def test_a_bad_row_that_is_not_selected_is_no_error(tmp_path: Path) -> None:
    good = ROWS["sst2"][0]
    write_rows(tmp_path, "sst2", good, {"sentence": "no label"}, good)
    examples = load_examples(get_task("sst2"), Rows(numbers=(2, 0)), tmp_path)
    assert row_numbers(examples) == [2, 0]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    good = ROWS["sst2"][0]
    path = write_rows(tmp_path, "sst2", good, good)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n \r\n") + b"\n")
    assert row_numbers(load_examples(get_task("sst2"), Rows(), tmp_path)) == [0, 1]


@pytest.mark.parametrize("line", [b"\n{", b"{", b'"\xff"'])
def test_a_line_that_is_not_json_is_refused(line: bytes, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "sst2", ROWS["sst2"][0])
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(BadRow, match=r"validation\.jsonl, row 1: not JSON"):
        load_examples(get_task("sst2"), Rows(first=1), tmp_path)


def test_a_missing_data_file_names_the_path_and_both_remedies(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound) as caught:
        load_examples(get_task("rte"), Rows(first=1), tmp_path)
    assert str(caught.value) == (
        f"task rte: no file {tmp_path / 'rte' / 'validation.jsonl'}; put it there, "
        "or unset PRUNELAKE_DATA to read the hub"
    )


def test_the_data_hash_depends_on_every_field_and_the_order() -> None:
    base = Example("test:0", "a", (" x", " y"), 0)
    variants = [
        [base],
        [Example("test:1", "a", (" x", " y"), 0)],
        [Example("test:0", "b", (" x", " y"), 0)],
        [Example("test:0", "a", (" x", " z"), 0)],
        [Example("test:0", "a", (" x", " y"), 1)],
        [base, Example("test:1", "b", (" x", " y"), 0)],
        [Example("test:1", "b", (" x", " y"), 0), base],
    ]
    hashes = [data_hash(v) for v in variants]
    assert len(set(hashes)) == len(variants)
    assert hashes[0] == hashlib.sha256(b'[["test:0","a",[" x"," y"],0]]').hexdigest()


def test_the_rows_of_the_paper(shared: Path) -> None:
    rows = parse_rows(f"{shared / 'data' / 'partitions.json'}:24", "boolq")
    examples = load_examples(get_task("boolq"), rows, shared / "data")
    assert len(examples) == 24
    assert row_numbers(examples[:3]) == [1183, 1943, 3006]


def test_a_bundled_task_ignores_the_data_folder(tmp_path: Path) -> None:
    task = get_task("opinions")
    assert load_examples(task, Rows(first=3), tmp_path) == load_examples(task, Rows(first=3), None)
