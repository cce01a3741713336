import json
from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import BadRow, DatasetNotFound, InvalidSpec
from prunelake.spec import Rows
from prunelake.tasks.catalogue import get_task
from prunelake.tasks.rows import Example, load_examples
from prunelake.tasks.search_split import draw_search_examples

SPLITS = {
    "arc_challenge": "validation",
    "arc_easy": "validation",
    "boolq": "train_sample",
    "openbookqa": "validation",
    "rotten_tomatoes": "validation",
    "rte": "train",
    "sst2": "train_sample",
    "tweet_eval": "test",
}


def write(data: Path, task: str, split: str, sentences: list[str]) -> None:
    path = data / task / f"{split}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"sentence": sentence, "label": 0} for sentence in sentences]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def reported(tmp_path: Path) -> list[Example]:
    write(tmp_path, "sst2", "validation", [f"film {n}" for n in range(4)])
    return load_examples(get_task("sst2"), Rows(first=4), tmp_path)


def ids(examples: list[Example]) -> list[str]:
    return [example.example_id for example in examples]


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_every_task_has_rows_in_another_split(name: str, shared: Path) -> None:
    task = get_task(name)
    assert task.split not in task.spare
    reported = load_examples(task, Rows(sample=200), shared / "data")
    drawn = draw_search_examples(task, 24, reported, shared / "data")
    assert {example.example_id.partition(":")[0] for example in drawn} == {SPLITS[name]}
    assert {e.prompt for e in drawn}.isdisjoint(e.prompt for e in reported)
    assert len({e.example_id for e in drawn}) == 24
    assert len({e.gold for e in drawn}) > 1  # even if a file is sorted by its labels


def test_the_first_spare_split_in_the_folder_is_taken(
    tmp_path: Path, reported: list[Example]
) -> None:
    write(tmp_path, "sst2", "train_sample", ["a", "b", "c"])
    task = get_task("sst2")
    assert ids(draw_search_examples(task, 3, reported, tmp_path)) == [
        f"train_sample:{n}" for n in range(3)
    ]
    write(tmp_path, "sst2", "train", ["d", "e", "f"])
    assert ids(draw_search_examples(task, 3, reported, tmp_path)) == [
        f"train:{n}" for n in range(3)
    ]


def test_a_reported_prompt_is_left_out_of_another_split(
    tmp_path: Path, reported: list[Example]
) -> None:
    write(tmp_path, "sst2", "train", ["film 2", "x", "film 0", "y"])
    assert ids(draw_search_examples(get_task("sst2"), 2, reported, tmp_path)) == [
        "train:1",
        "train:3",
    ]


def test_a_task_with_one_split_gives_its_other_rows() -> None:
    task = get_task("opinions")
    reported = load_examples(task, Rows(sample=480), None)
    drawn = draw_search_examples(task, 20, reported, None)
    assert sorted([*ids(drawn), *ids(reported)]) == sorted(f"test:{n}" for n in range(500))
    assert draw_search_examples(task, 20, reported, None) == drawn
    numbers = [
        int(name.partition(":")[2]) for name in ids(draw_search_examples(task, 8, reported, None))
    ]
    assert numbers == sorted(numbers)
    assert (
        numbers != sorted(set(range(500)) - {int(i.partition(":")[2]) for i in ids(reported)})[:8]
    )


def test_a_larger_sample_of_a_task_with_one_split_leaves_the_draw_alone() -> None:
    task = get_task("opinions")
    samples = [load_examples(task, Rows(sample=count), None) for count in (8, 60)]
    small, large = (draw_search_examples(task, 20, sample, None) for sample in samples)
    assert small == large


def test_the_error_for_too_few_rows_counts_them(tmp_path: Path, reported: list[Example]) -> None:
    write(tmp_path, "sst2", "train", ["x", "film 1", "y"])
    with pytest.raises(InvalidSpec, match=r"sst2: .* 3 rows .*train\.jsonl has 2; .* at most 2$"):
        draw_search_examples(get_task("sst2"), 3, reported, tmp_path)
    task = get_task("opinions")
    everything = load_examples(task, Rows(first=500), None)
    with pytest.raises(InvalidSpec, match=r"opinions: .* 1 rows .* has 0; report fewer rows$"):
        draw_search_examples(task, 1, everything, None)


def test_the_error_for_a_missing_split_names_the_files(
    tmp_path: Path, reported: list[Example]
) -> None:
    with pytest.raises(
        DatasetNotFound, match=r"rows for the search: no file .*train\.jsonl or .*train_sample"
    ):
        draw_search_examples(get_task("sst2"), 3, reported, tmp_path)


def test_the_hub_gives_the_first_spare_split(
    tmp_path: Path, reported: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0000.parquet"
    pl.DataFrame({"sentence": ["x", "y"], "label": [0, 1]}).write_parquet(path)
    downloads = []

    def download(repo: str, filename: str, *_: object) -> Path:
        downloads.append((repo, filename))
        return path

    monkeypatch.setattr("prunelake.tasks.rows.download_dataset_file", download)
    assert ids(draw_search_examples(get_task("sst2"), 2, reported, None)) == [
        "train:0",
        "train:1",
    ]
    assert downloads == [("nyu-mll/glue", "sst2/train/0000.parquet")]


def test_a_bad_row_that_is_drawn_is_named(tmp_path: Path, reported: list[Example]) -> None:
    write(tmp_path, "sst2", "train", ["x", " "])
    with pytest.raises(BadRow, match=r"train\.jsonl, row 1, column sentence"):
        draw_search_examples(get_task("sst2"), 2, reported, tmp_path)
