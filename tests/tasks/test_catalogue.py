import json
from pathlib import Path

import pytest
import yaml

from prunelake.errors import DatasetNotFound, UnknownTask
from prunelake.spec import Rows, SweepSpec
from prunelake.tasks.catalogue import get_task, task_names
from prunelake.tasks.rows import Example, load_examples
from tests.support.paths import ROOT
from tests.support.tasks.task_rows import ROWS


def test_the_catalogue_has_the_tasks_of_the_paper_and_of_the_demo() -> None:
    assert task_names() == sorted([*ROWS, "everyday_knowledge", "opinions"])
    for name in task_names():
        assert get_task(name).name == name


def test_an_unknown_task_lists_the_choices() -> None:
    with pytest.raises(UnknownTask, match=r"unknown task 'bolq'; choose from .*boolq.*tweet_eval"):
        get_task("bolq")


COLOURS = {
    "name": "colours",
    "prompt": "The {thing} is",
    "options": ["red", "blue"],
    "gold": {"column": "label"},
}
REVIEWS = ROOT / "docs" / "tasks"
SKY = {"thing": "sky", "label": 1}


def task_file(where: Path, **changes: object) -> str:
    path = where / "colours.yaml"
    path.write_text(yaml.safe_dump(COLOURS | changes), encoding="utf-8")
    return str(path)


def test_a_task_file_may_have_its_rows_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task_file(tmp_path, bundled="rows.jsonl")
    (tmp_path / "rows.jsonl").write_text(json.dumps(SKY), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for reference in (path, "colours.yaml"):
        (example,) = load_examples(get_task(reference), Rows(first=1), None)
        assert example == Example("test:0", "The sky is", (" red", " blue"), 1)
    assert SweepSpec(task=path).task_name == "colours"
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(DatasetNotFound, match=r"task colours: no file .*rows.jsonl"):
        load_examples(get_task(path), Rows(first=1), None)


def test_a_task_file_may_use_the_rows_of_another_task(tmp_path: Path) -> None:
    path = task_file(tmp_path, folder="things", hub={"repo": "our/things", "config": "default"})
    rows = tmp_path / "things" / "test.jsonl"
    rows.parent.mkdir()
    rows.write_text(json.dumps(SKY), encoding="utf-8")
    (example,) = load_examples(get_task(path), Rows(first=1), tmp_path)
    assert example.prompt == "The sky is"


@pytest.mark.parametrize("path", sorted(REVIEWS.glob("*_review.yaml")), ids=lambda path: path.stem)
def test_the_documented_task_files_use_the_rows_of_the_catalogue(path: Path, shared: Path) -> None:
    documented = get_task(str(path))
    assert documented.folder is not None
    rows = [
        load_examples(task, Rows(first=5), shared / "data")
        for task in (documented, get_task(documented.folder))
    ]
    for mine, theirs in zip(*rows, strict=True):
        text = mine.prompt.removeprefix("Review: ").removesuffix("\nSentiment:")
        assert theirs.prompt.startswith(text + "\n")
        assert (mine.options, mine.gold) == (theirs.options, theirs.gold)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundled": None}, "give exactly one of hub (a dataset) and bundled (a file of rows)"),
        ({"name": "sst2"}, "its name is 'sst2'; leave `name` out"),
        ({"prompt": None}, "line 8, prompt: None is not a text; write it in quotes"),
        ({"prompt": "{q"}, "line 8, prompt: '{q': a brace has no partner; write {column}, "),
        ({"prompt": "{q} }"}, "line 8, prompt: '{q} }': a brace has no partner"),
        ({"prompt": "{}"}, "line 8, prompt: '{}': braces take the name of a column and nothing"),
        ({"prompt": "{q:>10d}"}, "'{q:>10d}': braces take the name of a column and nothing else"),
        ({"prompt": "{q!r}"}, "'{q!r}': braces take the name of a column and nothing else"),
        ({"prompt": "Why?"}, "line 8, prompt: 'Why?' is the same for every row; write a column"),
        ({"options": [True, False]}, "line 5, options: True is not a text: YAML reads yes, no, "),
        ({"options": ["red"]}, "line 5, options: 1 options; a question has at least 2"),
        ({"options": ["red", " "]}, "line 5, options: option 1 is empty"),
        ({"options": ["red", "a", "red "]}, "line 5, options: the option 'red' appears twice"),
        ({"options": 5}, "line 5, options: 5 is neither a list like"),
        ({"glod": 5}, "line 2, glod: no such field; did you mean gold?"),
    ],
)
def test_a_wrong_task_file_is_refused_with_its_line(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = task_file(tmp_path, **{"bundled": "rows.jsonl"} | changes)
    with pytest.raises(UnknownTask) as caught:
        get_task(path)
    assert str(caught.value).startswith(f"task file {path}")
    assert message in str(caught.value)


def test_only_prompt_options_gold_and_rows_are_required(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text('bundled: a.jsonl\nprompt: "{{{q}}}"\noptions: ["no", "yes"]\ngold: g')
    (tmp_path / "a.jsonl").write_text('{"q": "Is it {so}?", "g": "yes"}')
    task = get_task(str(path))
    assert (task.name, task.split, task.license) == ("mine", "test", "unknown")
    (example,) = load_examples(task, Rows(first=1), None)
    assert example == Example("test:0", "{Is it {so}?}", (" no", " yes"), 1)


def test_a_task_file_that_is_absent_no_yaml_or_takes_a_known_name_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnknownTask, match=r"absent\.yaml cannot be read"):
        get_task(str(tmp_path / "absent.yaml"))
    (tmp_path / "sst2.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UnknownTask, match=r"sst2\.yaml, line 1: not YAML"):
        get_task(str(tmp_path / "sst2.yaml"))
    mine = COLOURS | {"name": "sst2", "bundled": "rows.jsonl"}
    (tmp_path / "sst2.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    with pytest.raises(UnknownTask, match="the catalogue has a task 'sst2'"):
        get_task(str(tmp_path / "sst2.yaml"))
