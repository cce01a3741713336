"""Imports refuse damaged copies of a real log of lm-evaluation-harness."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import BadRow
from prunelake.imports.harness import import_harness, read_harness
from tests.support.harness_logs import (
    LEVELS,
    Log,
    impossible,
    no_column,
    read_log,
    save,
    with_target,
)


def first(**columns: Any) -> Callable[[Log], Log]:
    return lambda rows: [rows[0] | columns, *rows[1:]]


def generation(rows: Log) -> Log:
    arguments = {"gen_args_0": {"arg_0": "Say something.", "arg_1": {"until": ["\n"]}}}
    return [row | {"arguments": arguments, "filtered_resps": ["a word"]} for row in rows]


def own_prompts(rows: Log) -> Log:
    rows[0]["arguments"]["gen_args_1"]["arg_0"] = "another prompt"
    return rows


LL = [["-9.0", "False"], ["-8.0", "False"], ["-7.0", "False"]]


REFUSED: dict[str, tuple[Callable[[Log], Log], str]] = {
    "empty": (lambda rows: rows[:0], "has no rows"),
    "no acc": (no_column("acc"), "row 0, acc: Field required"),
    "no hash": (no_column("doc_hash"), "row 0, doc_hash: Field required"),
    "no arguments": (no_column("arguments"), "row 0, arguments: Field required"),
    "generated": (generation, r"row 0, arguments.*multiple-choice task"),
    "nan": (
        first(filtered_resps=[["nan", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: nan is no",
    ),
    "infinite": (
        first(filtered_resps=[["inf", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: inf is no log-likelihood",
    ),
    "impossible": (
        lambda rows: [impossible(rows[0], "-inf")],
        "no row has a finite log-likelihood of each option",
    ),
    "a word": (
        first(filtered_resps=[["low", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: .*low",
    ),
    "a boolean": (first(filtered_resps=[[False, "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "digits": (first(filtered_resps=[["-1_0", "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "null": (first(filtered_resps=[[None, "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "a probability": (
        first(filtered_resps=[["0.5", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: 0.5 is no log-likelihood: it should be at most 0",
    ),
    "half a character": (
        first(arguments=[["?", " \ud800"], ["?", " b"], ["?", " c"]]),
        "row 0, arguments.0.1: .*surrogates not allowed",
    ),
    "no number": (no_column("doc_id"), "row 0, doc_id: Field required"),
    "no target": (no_column("target"), "row 0, target: Field required"),
    "no answers": (no_column("filtered_resps"), "row 0, filtered_resps: Field required"),
    "NaN acc": (first(acc=math.nan), "doc_id 0: acc is nan"),
    "too few": (first(filtered_resps=LL[:2]), "doc_id 0: 2 answers for 3 options"),
    "twice": (lambda rows: [*rows, rows[0]], "doc_id 0 appears twice"),
    "mixed": (first(doc={"sentence": "?"}), "row 1: doc has other columns than row 0"),
    "edited target": (first(target="2"), "doc_id 0: '2' does not match its hash"),
    "wrong acc": (first(acc=1.0), "doc_id 0: acc is 1, but .* predict option"),
    "part acc": (first(acc=0.43), "doc_id 0: acc is 0.43"),
    "wrong acc_norm": (first(acc_norm=1.0), "doc_id 0: acc_norm is 1"),
    "wrong acc_bytes": (first(acc_bytes=1.0), "doc_id 0: acc_bytes is 1"),
    "no option": (
        lambda r: [with_target(r[0], "7"), *r[1:]],
        "doc_id 0: target '7' is neither the number",
    ),
    "two right": (lambda r: [with_target(r[0], "[0, 1]")], r"target '\[0, 1\]' is neither"),
    "the same options": (
        first(arguments=[["?", " a"], ["?", " a"], ["?", " a"]], prompt_hash=None),
        "doc_id 0: all 3 options are 'a'",
    ),
    "own prompts": (own_prompts, "each option has its own prompt"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_log_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Log], Log], message: str
) -> None:
    path = save(tmp_path, change(read_log(0)))
    with pytest.raises(BadRow, match=message) as raised:
        import_harness(tmp_path / "lake", {0: path}, model="tiny")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lake").exists()


def test_rows_that_do_not_match_the_results_are_refused(tmp_path: Path) -> None:
    for path in LEVELS[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (path,) = tmp_path.glob("samples_*")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(BadRow, match="its 11 rows do not match the results file"):
        read_harness(path)


@pytest.mark.parametrize("text", ["not json", "[]", '{"config": null}'])
def test_unreadable_results_are_refused(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, read_log(0))
    (tmp_path / "results_2026-01-02T03-04-05.678.json").write_text(text)
    with pytest.raises(BadRow, match=r"results_.*restore or move it"):
        read_harness(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, read_log(0)).with_suffix(".jsonl.gz")
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in read_log(0)).encode())
    for place in range(10, len(data), 50):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(BadRow):
            read_harness(path)
    path.with_suffix("").write_text('{"doc":' * 100_000, "utf-8")
    with pytest.raises(BadRow, match="cannot be read: RecursionError"):
        read_harness(path.with_suffix(""))
