from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunelake.errors import EmptySelection, InvalidSpec
from prunelake.spec import Rows
from prunelake.tasks.catalogue import get_task
from prunelake.tasks.row_selection import parse_rows
from prunelake.tasks.rows import load_examples
from tests.support.tasks.task_rows import row_numbers, write_sst2_rows


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
def test_an_impossible_selection_is_refused(
    rows: Rows, error: type[Exception], message: str, tmp_path: Path
) -> None:
    write_sst2_rows(tmp_path, 5)
    with pytest.raises(error) as caught:
        load_examples(get_task("sst2"), rows, tmp_path)
    assert str(caught.value) == f"sst2 (validation): {message}"


@pytest.fixture(scope="module")
def thirty_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("thirty")
    write_sst2_rows(data, 30)
    return data


@given(count=st.integers(1, 30), seed=st.integers(0, 2**31 - 1))
def test_a_sample_begins_with_the_smaller_samples_of_its_seed(
    thirty_rows: Path, count: int, seed: int
) -> None:
    task = get_task("sst2")
    drawn = row_numbers(load_examples(task, Rows(sample=count, seed=seed), thirty_rows))
    everything = row_numbers(load_examples(task, Rows(sample=30, seed=seed), thirty_rows))
    assert sorted(everything) == [*range(30)]
    assert drawn == everything[:count]


def test_a_sample_depends_on_the_seed_and_never_changes(thirty_rows: Path) -> None:
    draws = {
        seed: row_numbers(load_examples(get_task("sst2"), Rows(sample=6, seed=seed), thirty_rows))
        for seed in (0, 1)
    }
    assert draws == {0: [2, 11, 26, 21, 10, 4], 1: [21, 16, 7, 1, 3, 28]}


@given(numbers=st.lists(st.integers(0, 29), min_size=1, unique=True))
def test_row_numbers_keep_their_order(thirty_rows: Path, numbers: list[int]) -> None:
    examples = load_examples(get_task("sst2"), Rows(numbers=tuple(numbers)), thirty_rows)
    assert row_numbers(examples) == numbers
    assert [e.prompt.split("\n")[0] for e in examples] == [f"film {n}" for n in numbers]


@given(count=st.integers(1, 30))
def test_first_rows(thirty_rows: Path, count: int) -> None:
    examples = load_examples(get_task("sst2"), Rows(first=count), thirty_rows)
    assert row_numbers(examples) == list(range(count))


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
def test_each_form_of_a_selection_is_parsed(text: str, rows: Rows) -> None:
    assert parse_rows(text, "rte") == rows


@pytest.mark.parametrize(
    "text",
    ["", "-3", "3.5", "first:3", "sample:", "sample:3:", "numbers:", "numbers:3,", "no.json"],
)
def test_an_unknown_form_lists_the_four_forms(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_rows(text, "rte")
    message = str(caught.value)
    assert repr(text) in message
    for form in ("200", "sample:200:7", "numbers:3,5,8", "JSON file"):
        assert form in message


def test_a_long_list_with_a_mistake_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="no such form"):
        parse_rows("numbers:" + ", ".join(map(str, range(200))), "rte")


def test_a_file_of_row_numbers_is_parsed(tmp_path: Path) -> None:
    by_task, plain = tmp_path / "by_task.json", tmp_path / "plain.json"
    by_task.write_text('{"rte": [9, 2, 5], "sst2": [1]}')
    plain.write_text("[4, 3]")
    assert parse_rows(str(by_task), "rte") == Rows(numbers=(9, 2, 5))
    assert parse_rows(f"{by_task}:2", "rte") == Rows(numbers=(9, 2))
    assert parse_rows(str(plain), "rte") == Rows(numbers=(4, 3))


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
def test_a_bad_file_of_row_numbers_is_refused(
    content: str, suffix: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(InvalidSpec, match=message):
        parse_rows(f"{path}{suffix}", "rte")
