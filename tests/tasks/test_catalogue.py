import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prunelake.errors import BadRow, DatasetNotFound, EmptySelection, InvalidSpec, UnknownTask
from prunelake.spec import Rows, SweepSpec
from prunelake.tasks import catalogue
from prunelake.tasks import rows as tasks_rows
from prunelake.tasks.rows import Example
from tests.support.hub_server import run_against, running_hub
from tests.support.paths import ROOT

# One made-up row for each task, in the columns of its dataset, and what the model is to see.
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

CONVERTED_RTE = "/datasets/nyu-mll/glue/resolve/refs%2Fconvert%2Fparquet/rte"

# The first row of each real dataset: how its prompt begins and ends, its first option, the answer.
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


def write_rows(data: Path, name: str, *rows: Any) -> Path:
    path = data / catalogue.get_task(name).file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def sst2_rows(data: Path, count: int) -> None:
    write_rows(data, "sst2", *({"sentence": f"film {n}", "label": n % 2} for n in range(count)))


def row_numbers(examples: list[Example]) -> list[int]:
    return [int(e.example_id.removeprefix("validation:")) for e in examples]


def test_catalog_has_the_tasks_of_the_paper_and_the_demo() -> None:
    assert catalogue.task_names() == sorted([*ROWS, "everyday_knowledge", "opinions"])
    for name in catalogue.task_names():
        assert catalogue.get_task(name).name == name


def test_unknown_task_lists_the_choices() -> None:
    with pytest.raises(UnknownTask, match=r"unknown task 'bolq'; choose from .*boolq.*tweet_eval"):
        catalogue.get_task("bolq")


OWN = {
    "name": "colours",
    "description": "Which colour?",
    "source": "ours",
    "license": "ours",
    "split": "test",
    "prompt": "The {thing} is",
    "options": ["red", "blue"],
    "gold": {"column": "label"},
}
REVIEWS = ROOT / "docs" / "tasks"
SKY = {"thing": "sky", "label": 1}


def task_file(where: Path, **changes: object) -> str:
    path = where / "colours.yaml"
    path.write_text(yaml.safe_dump(OWN | changes), encoding="utf-8")
    return str(path)


def test_task_of_a_file_with_its_rows_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task_file(tmp_path, bundled="rows.jsonl")
    (tmp_path / "rows.jsonl").write_text(json.dumps(SKY), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for reference in (path, "colours.yaml"):
        (example,) = tasks_rows.load_examples(catalogue.get_task(reference), Rows(first=1), None)
        assert example == Example("test:0", "The sky is", (" red", " blue"), 1)
    assert SweepSpec(task=path).task_name == "colours"
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(DatasetNotFound, match=r"task colours: no file .*rows.jsonl"):
        tasks_rows.load_examples(catalogue.get_task(path), Rows(first=1), None)


def test_task_of_a_file_with_another_task_s_rows(tmp_path: Path) -> None:
    path = task_file(tmp_path, folder="things", hub={"repo": "our/things", "config": "default"})
    rows = tmp_path / "things" / "test.jsonl"
    rows.parent.mkdir()
    rows.write_text(json.dumps(SKY), encoding="utf-8")
    (example,) = tasks_rows.load_examples(catalogue.get_task(path), Rows(first=1), tmp_path)
    assert example.prompt == "The sky is"


@pytest.mark.parametrize("path", sorted(REVIEWS.glob("*.yaml")), ids=lambda path: path.stem)
def test_tasks_of_the_documentation_show_the_data_of_the_catalog(path: Path, shared: Path) -> None:
    own = catalogue.get_task(str(path))
    assert own.folder is not None
    rows = [
        tasks_rows.load_examples(task, Rows(first=5), shared / "data")
        for task in (own, catalogue.get_task(own.folder))
    ]
    for mine, theirs in zip(*rows, strict=True):
        text = mine.prompt.removeprefix("Review: ").removesuffix("\nSentiment:")
        assert theirs.prompt.startswith(text + "\n")
        assert (mine.options, mine.gold) == (theirs.options, theirs.gold)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give exactly one of hub, bundled"),
        ({"bundled": "rows.jsonl", "name": "sst2"}, r"its name is 'sst2'; name it 'colours'"),
        ({"bundled": "rows.jsonl", "prompt": None}, "prompt: Input should be a valid string"),
    ],
)
def test_task_file_that_is_wrong(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownTask, match=message):
        catalogue.get_task(task_file(tmp_path, **changes))


def test_task_file_that_is_not_there_no_yaml_or_named_as_one_of_the_catalog(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnknownTask, match=r"absent\.yaml cannot be read"):
        catalogue.get_task(str(tmp_path / "absent.yaml"))
    (tmp_path / "sst2.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UnknownTask, match="cannot be read"):
        catalogue.get_task(str(tmp_path / "sst2.yaml"))
    mine = OWN | {"name": "sst2", "bundled": "rows.jsonl"}
    (tmp_path / "sst2.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    with pytest.raises(UnknownTask, match="the catalog has a task 'sst2'"):
        catalogue.get_task(str(tmp_path / "sst2.yaml"))


@pytest.mark.parametrize("name", ROWS)
def test_row_becomes_example(name: str, tmp_path: Path) -> None:
    row, example = ROWS[name]
    write_rows(tmp_path, name, row)
    assert tasks_rows.load_examples(catalogue.get_task(name), Rows(first=1), tmp_path) == [example]


@pytest.mark.parametrize("name", FIRST_ROWS)
def test_first_row_of_the_real_data(name: str, shared: Path) -> None:
    start, end, option, gold = FIRST_ROWS[name]
    (example,) = tasks_rows.load_examples(catalogue.get_task(name), Rows(first=1), shared / "data")
    assert example.prompt.startswith(start)
    assert example.prompt.endswith(end)
    assert example.options[0] == option
    assert example.gold == gold


def test_every_row_of_the_real_data_is_an_example(shared: Path) -> None:
    sizes = {"arc_challenge": 1172, "openbookqa": 500, "sst2": 872, "tweet_eval": 2000}
    for name, size in sizes.items():
        examples = tasks_rows.load_examples(
            catalogue.get_task(name), Rows(first=size), shared / "data"
        )
        assert all(0 <= e.gold < len(e.options) for e in examples)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sst2", {"label": None}, "row 0, column label: no value"),
        ("sst2", {"label": -1}, "row 0, column label: '-1' is not one of 0, 1"),
        ("sst2", {"label": 2}, "row 0, column label: '2' is not one of 0, 1"),
        ("sst2", {"sentence": None}, "row 0, column sentence: no value"),
        ("sst2", {"sentence": 7}, "row 0, column sentence: 7 is not a text"),
        ("sst2", {"sentence": " "}, "row 0, column sentence: ' ' is not a text"),
        ("arc_easy", {"answerKey": "D"}, "row 0, column answerKey: 'D' is not one of A, B, C"),
        ("arc_easy", {"choices": {"label": ["A"]}}, "row 0, column choices.text: no value"),
        ("arc_easy", {"choices": "A"}, "row 0, column choices.text: no value"),
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
            "row 0, column choices.text: 1 options; it takes at least 2",
        ),
        (
            "arc_easy",
            {"choices": {"text": ["a", "b", "c"], "label": ["A", "B"]}},
            "row 0, column choices.label: 2 labels for 3 options",
        ),
    ],
)
def test_bad_row_names_file_row_and_column(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path, name, ROWS[name][0] | change)
    with pytest.raises(BadRow) as caught:
        tasks_rows.load_examples(catalogue.get_task(name), Rows(first=1), tmp_path)
    assert str(caught.value) == f"{path}, {message}"


def test_bad_row_that_was_not_selected_does_no_harm(tmp_path: Path) -> None:
    good = ROWS["sst2"][0]
    write_rows(tmp_path, "sst2", good, {"sentence": "no label"}, good)
    examples = tasks_rows.load_examples(catalogue.get_task("sst2"), Rows(numbers=(2, 0)), tmp_path)
    assert row_numbers(examples) == [2, 0]


@pytest.mark.parametrize("line", [b"", b"{", b'"\xff"'])
def test_line_that_is_not_json(line: bytes, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "sst2", ROWS["sst2"][0])
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(BadRow, match=r"validation\.jsonl, row 1: not JSON"):
        tasks_rows.load_examples(catalogue.get_task("sst2"), Rows(first=1), tmp_path)


def test_missing_data_file_names_the_path_and_both_remedies(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound) as caught:
        tasks_rows.load_examples(catalogue.get_task("rte"), Rows(first=1), tmp_path)
    assert str(caught.value) == (
        f"task rte: no file {tmp_path / 'rte' / 'validation.jsonl'}; put it there, "
        "or unset PRUNELAKE_DATA to read the hub"
    )


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (Rows(first=0), EmptySelection, "0 rows selected; ask for 1 to 5"),
        (Rows(sample=0), EmptySelection, "0 rows selected; ask for 1 to 5"),
        (Rows(numbers=()), EmptySelection, "0 rows selected; ask for 1 to 5"),
        (Rows(first=6), InvalidSpec, "6 rows asked for; it has 5"),
        (Rows(sample=6), InvalidSpec, "6 rows asked for; it has 5"),
        (Rows(numbers=(0, 5)), InvalidSpec, "no row 5; it has 5 rows, from 0"),
        (Rows(numbers=(-1,)), InvalidSpec, "no row -1; it has 5 rows, from 0"),
        (Rows(numbers=(3, 1, 3)), InvalidSpec, "row 3 is asked for more than once"),
    ],
)
def test_selection_that_cannot_be_made(
    rows: Rows, error: type[Exception], message: str, tmp_path: Path
) -> None:
    sst2_rows(tmp_path, 5)
    with pytest.raises(error) as caught:
        tasks_rows.load_examples(catalogue.get_task("sst2"), rows, tmp_path)
    assert str(caught.value) == f"sst2 (validation): {message}"


@pytest.fixture(scope="module")
def thirty_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("thirty")
    sst2_rows(data, 30)
    return data


@given(count=st.integers(1, 30), seed=st.integers(0, 2**31 - 1))
def test_sample_is_seeded_sorted_and_without_repetition(
    thirty_rows: Path, count: int, seed: int
) -> None:
    task = catalogue.get_task("sst2")
    drawn = row_numbers(tasks_rows.load_examples(task, Rows(sample=count, seed=seed), thirty_rows))
    assert drawn == sorted(set(drawn))
    assert len(drawn) == count
    assert set(drawn) <= set(range(30))
    assert drawn == row_numbers(
        tasks_rows.load_examples(task, Rows(sample=count, seed=seed), thirty_rows)
    )


def test_sample_depends_on_the_seed_and_stays_what_it_was(thirty_rows: Path) -> None:
    draws = {
        seed: row_numbers(
            tasks_rows.load_examples(
                catalogue.get_task("sst2"), Rows(sample=6, seed=seed), thirty_rows
            )
        )
        for seed in (0, 1)
    }
    assert draws == {0: [1, 7, 8, 13, 16, 21], 1: [1, 4, 11, 13, 20, 26]}


@given(numbers=st.lists(st.integers(0, 29), min_size=1, unique=True))
def test_numbers_keep_their_order(thirty_rows: Path, numbers: list[int]) -> None:
    examples = tasks_rows.load_examples(
        catalogue.get_task("sst2"), Rows(numbers=tuple(numbers)), thirty_rows
    )
    assert row_numbers(examples) == numbers
    assert [e.prompt.split("\n")[0] for e in examples] == [f"film {n}" for n in numbers]


@given(count=st.integers(1, 30))
def test_first_rows(thirty_rows: Path, count: int) -> None:
    examples = tasks_rows.load_examples(catalogue.get_task("sst2"), Rows(first=count), thirty_rows)
    assert row_numbers(examples) == list(range(count))


def test_data_hash_sees_every_field_and_the_order() -> None:
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
    hashes = [tasks_rows.data_hash(v) for v in variants]
    assert len(set(hashes)) == len(variants)
    assert hashes[0] == hashlib.sha256(b'[["test:0","a",[" x"," y"],0]]').hexdigest()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("200", Rows(first=200)),
        ("sample:200", Rows(sample=200, seed=0)),
        ("sample:200:7", Rows(sample=200, seed=7)),
        ("numbers:3,5,8", Rows(numbers=(3, 5, 8))),
        ("numbers:3", Rows(numbers=(3,))),
    ],
)
def test_parse_rows(text: str, rows: Rows) -> None:
    assert tasks_rows.parse_rows(text, "rte") == rows


@pytest.mark.parametrize(
    "text",
    ["", "-3", "3.5", "first:3", "sample:", "sample:3:", "numbers:", "numbers:3,", "no.json"],
)
def test_parse_rows_lists_the_four_forms(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        tasks_rows.parse_rows(text, "rte")
    message = str(caught.value)
    assert repr(text) in message
    for form in ("200", "sample:200:7", "numbers:3,5,8", "JSON file"):
        assert form in message


def test_parse_rows_of_a_long_list_with_a_slip() -> None:
    with pytest.raises(InvalidSpec, match="no such form"):
        tasks_rows.parse_rows("numbers:" + ", ".join(map(str, range(200))), "rte")


def test_parse_rows_of_a_file(tmp_path: Path) -> None:
    by_task, plain = tmp_path / "by_task.json", tmp_path / "plain.json"
    by_task.write_text('{"rte": [9, 2, 5], "sst2": [1]}')
    plain.write_text("[4, 3]")
    assert tasks_rows.parse_rows(str(by_task), "rte") == Rows(numbers=(9, 2, 5))
    assert tasks_rows.parse_rows(f"{by_task}:2", "rte") == Rows(numbers=(9, 2))
    assert tasks_rows.parse_rows(str(plain), "rte") == Rows(numbers=(4, 3))


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        ("{", "", "not JSON"),
        ('{"sst2": [1]}', "", "no rows for rte; it has sst2"),
        ('"rte"', "", "not a list of row numbers"),
        ("[1, 2.5]", "", "not a list of row numbers"),
        ("[true]", "", "not a list of row numbers"),
        ("[1, 2]", ":3", "3 rows asked for, but it lists 2"),
    ],
)
def test_parse_rows_of_a_bad_file(content: str, suffix: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(InvalidSpec, match=message):
        tasks_rows.parse_rows(f"{path}{suffix}", "rte")


def test_rows_of_the_paper(shared: Path) -> None:
    rows = tasks_rows.parse_rows(f"{shared / 'data' / 'partitions.json'}:24", "boolq")
    examples = tasks_rows.load_examples(catalogue.get_task("boolq"), rows, shared / "data")
    assert len(examples) == 24
    assert row_numbers(examples[:3]) == [1183, 1943, 3006]


def test_everyday_knowledge_is_well_formed() -> None:
    examples = tasks_rows.load_examples(
        catalogue.get_task("everyday_knowledge"), Rows(first=80), None
    )
    with pytest.raises(InvalidSpec, match="it has 80"):
        tasks_rows.load_examples(catalogue.get_task("everyday_knowledge"), Rows(first=81), None)
    assert len({e.prompt for e in examples}) == 80
    assert Counter(e.gold for e in examples) == {0: 20, 1: 20, 2: 20, 3: 20}
    for example in examples:
        assert len(set(example.options)) == len(example.options) == 4
        question = example.prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
        assert 6 <= len(question.split()) <= 14
        assert all(1 <= len(option.split()) <= 4 for option in example.options)


def test_opinions_are_well_formed() -> None:
    examples = tasks_rows.load_examples(catalogue.get_task("opinions"), Rows(first=80), None)
    with pytest.raises(InvalidSpec, match="it has 80"):
        tasks_rows.load_examples(catalogue.get_task("opinions"), Rows(first=81), None)
    assert len({e.prompt for e in examples}) == 80
    assert Counter(e.gold for e in examples) == {0: 40, 1: 40}
    assert all(8 <= len(e.prompt.split("\n")[0].split()) <= 16 for e in examples)
    # Any first n must hold both kinds: a calibration score of one kind alone says nothing.
    assert 8 <= sum(e.gold for e in examples[:24]) <= 16


def test_bundled_task_ignores_the_data_folder(tmp_path: Path) -> None:
    task = catalogue.get_task("opinions")
    assert tasks_rows.load_examples(task, Rows(first=3), tmp_path) == tasks_rows.load_examples(
        task, Rows(first=3), None
    )


PREAMBLE = (
    "from prunelake.tasks import catalogue, rows\n"
    "from prunelake.errors import DatasetNotFound\n"
    "from prunelake.spec import Rows\n"
)


def test_rows_from_the_hub(tmp_path: Path) -> None:
    row, example = ROWS["arc_easy"]
    path = tmp_path / "0000.parquet"
    pl.DataFrame([row]).write_parquet(path)
    url = "/datasets/allenai/ai2_arc/resolve/refs%2Fconvert%2Fparquet/ARC-Easy/test/0000.parquet"
    load = "print(rows.load_examples(catalogue.get_task('arc_easy'), Rows(first=1), None))"
    with running_hub({url: path.read_bytes()}) as endpoint:
        assert run_against(endpoint, tmp_path / "cache", PREAMBLE + load).strip() == repr([example])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "RepositoryNotFoundError: 404"),
        ({f"{CONVERTED_RTE}/validation/0000.parquet": b"x"}, "cannot be read: ComputeError"),
    ],
)
def test_hub_failure_is_one_line_with_its_reason(
    files: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    code = (
        "try: rows.load_examples(catalogue.get_task('rte'), Rows(first=1), None)\n"
        "except DatasetNotFound as error: print(error)"
    )
    with running_hub(files) as endpoint:
        output = run_against(endpoint, tmp_path, PREAMBLE + code)
    assert len(output.splitlines()) == 1
    assert reason in output


def test_offline_names_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DatasetNotFound, match=r"go online, or set PRUNELAKE_DATA .*rte/validation"):
        tasks_rows.load_examples(catalogue.get_task("rte"), Rows(first=1), None)
