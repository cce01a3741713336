"""Checks of the rows that the package carries: correct form, no duplicates, balanced gold."""

import re
from collections import Counter

import pytest

from prunelake.errors import InvalidSpec
from prunelake.spec import Rows
from prunelake.tasks.catalogue import get_task
from prunelake.tasks.rows import Example, load_examples

ROW_COUNTS = {"everyday_knowledge": 360, "opinions": 500}


def examples_of(task: str) -> list[Example]:
    return load_examples(get_task(task), Rows(first=ROW_COUNTS[task]), None)


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+", text.lower()))


@pytest.mark.parametrize("task", ROW_COUNTS)
def test_no_prompt_appears_twice(task: str) -> None:
    prompts = [words(example.prompt) for example in examples_of(task)]
    assert [prompt for prompt, count in Counter(prompts).items() if count > 1] == []


@pytest.mark.parametrize("task", ROW_COUNTS)
def test_the_row_count_is_known(task: str) -> None:
    count = ROW_COUNTS[task]
    with pytest.raises(InvalidSpec, match=f"it has {count}"):
        load_examples(get_task(task), Rows(first=count + 1), None)


# A demo reads the first rows, so each block of rows has to be balanced, not only the whole file.
@pytest.mark.parametrize(("task", "block"), [("everyday_knowledge", 40), ("opinions", 10)])
def test_every_block_of_rows_has_nearly_balanced_gold_options(task: str, block: int) -> None:
    examples = examples_of(task)
    options = range(len(examples[0].options))
    for start in range(0, len(examples), block):
        counts = Counter(example.gold for example in examples[start : start + block])
        expected = block / len(options)
        assert all(abs(counts[gold] - expected) <= 0.4 * expected for gold in options), start
    totals = Counter(example.gold for example in examples)
    assert len(set(totals.values())) == 1


def test_everyday_knowledge_has_short_questions_and_four_distinct_options() -> None:
    for example in examples_of("everyday_knowledge"):
        assert len(set(example.options)) == len(example.options) == 4
        question = example.prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
        assert question.endswith("?")
        assert 3 <= len(question.split()) <= 14
        assert all(1 <= len(option.split()) <= 4 for option in example.options)


def test_opinions_are_single_sentences() -> None:
    for example in examples_of("opinions"):
        sentence = example.prompt.removeprefix("Review: ").removesuffix("\nSentiment:")
        assert 5 <= len(sentence.split()) <= 16
        assert re.fullmatch(r"[A-Z][^.!?]*\.", sentence)
