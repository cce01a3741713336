"""Made-up rows for tasks of lm-evaluation-harness, in the columns of their datasets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunelake.tasks.harness import find_harness_task

Row = dict[str, Any]

THINGS = ("a kite", "the old bridge", "wet wool", "a violin")
PLACES = ("in the attic", "by the river", "on a ship", "under snow")


def _rows(task: str) -> Iterator[Row]:
    """Four rows of a task: row n is about the n-th thing and place."""
    for n, (thing, place) in enumerate(zip(THINGS, PLACES, strict=True)):
        sentence = f"{thing} lay {place}"
        question = f"What happened to {thing}"
        texts = [f"it dried {place}", "it broke", f"someone sold {thing}", "nothing"]
        letters = ["A", "B", "C", "D"]
        rows: dict[str, Row] = {
            "hellaswag": {
                "activity_label": "Moving things",
                "ctx_a": f"Somebody sees {thing}.",
                "ctx_b": f"they [title] look {place}",
                "endings": texts,
                "label": str(n % 4),
            },
            "piqa": {"goal": question, "sol1": texts[0], "sol2": texts[1], "label": n % 2},
            "sciq": {
                "support": f" {sentence}.",
                "question": question,
                "distractor1": "wind",
                "distractor2": "rust",
                "distractor3": place,
                "correct_answer": thing,
            },
            "copa": {
                "premise": f"{sentence.capitalize()}.",
                "choice1": "It was cold.",
                "choice2": f"Somebody forgot {thing}.",
                "question": ("cause", "effect")[n % 2],
                "label": n % 2,
            },
            "cb": {"premise": sentence, "hypothesis": f"there is {thing}", "label": n % 3},
            "wic": {
                "word": "lay",
                "sentence1": sentence,
                "sentence2": f"lay down {place}",
                "start1": len(thing) + 1,
                "end1": len(thing) + 4,
                "label": n % 2,
            },
            "qnli": {"question": f"{question}?", "sentence": sentence, "label": n % 2},
            "cola": {"sentence": sentence, "label": n % 2},
            "commonsense_qa": {
                "question": question,
                "choices": {"label": [*letters, "E"], "text": [*texts, place]},
                "answerKey": "BEAC"[n],
            },
            "logiqa": {
                "context": f"{sentence}.",
                "question": question,
                "options": texts,
                "label": "abcd"[n],
            },
            "swag": {
                "startphrase": f"Somebody finds {thing} and",
                **{f"ending{k}": text for k, text in enumerate(texts)},
                "label": n % 4,
            },
            "mmlu_anatomy": {"question": f" {question}? ", "choices": texts, "answer": n},
            "blimp_causative": {"sentence_good": sentence, "sentence_bad": f"{place} lay {thing}"},
            "truthfulqa_mc1": {
                "question": f"{question}?",
                "mc1_targets": {"choices": texts[: 2 + n % 3], "labels": [1, 0, 0, 0][: 2 + n % 3]},
            },
            "winogrande": {
                "sentence": f"He left {thing} {place}, because the _ was too heavy.",
                "option1": thing.split()[-1],
                "option2": "ladder",
                "answer": "12"[n % 2],
            },
            "boolq": {"question": f"is {thing} {place}", "passage": sentence, "label": n % 2},
            "rte": {"sentence1": sentence, "sentence2": f"{thing} is gone", "label": n % 2},
            "sst2": {"sentence": f"{thing} , a film {place} ", "label": n % 2},
            "openbookqa": {
                "question_stem": f"{sentence} because",
                "choices": {"text": texts, "label": letters},
                "answerKey": letters[n],
            },
            **{
                name: {
                    "question": f"{question}?",
                    "choices": {
                        "text": texts[: 3 + n % 2],
                        "label": ["1", "2", "3", "4"][: 3 + n % 2],
                    },
                    "answerKey": "2",
                }
                for name in ("arc_easy", "arc_challenge")
            },
        }
        yield rows[task]


HARNESS_TASKS = (
    *("hellaswag", "piqa", "sciq", "copa", "cb", "wic", "qnli", "cola", "commonsense_qa", "logiqa"),
    *("swag", "mmlu_anatomy", "blimp_causative", "truthfulqa_mc1", "winogrande"),
)
CATALOGUE_TASKS = ("boolq", "rte", "sst2", "openbookqa", "arc_easy", "arc_challenge")
"""The tasks of PruneLake's catalogue that the harness has, too, under the same name."""


def write_splits(data_folder: Path, task: str) -> Path:
    """Write the rows of a task as all splits that it may read; the folder of its dataset.

    The splits differ: each begins with another row.
    """
    folder = data_folder / find_harness_task(f"harness:{task}").dataset
    folder.mkdir(parents=True, exist_ok=True)
    rows = [*_rows(task)]
    for shift, split in enumerate(("test", "validation", "train", "dev")):
        lines = (json.dumps(row) + "\n" for row in rows[shift:] + rows[:shift])
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    return folder
