"""The speed of explaining a model at every level, compared with other tools and with the machine.

    python -m benchmarks.speed [--quick] [--task arc_easy --rows 3 --levels 0,1,2 --seeds 0]

Predictions, KernelSHAP and deletion curves of a few rows at all levels: our nested passes against
captum level by level, interpreto and lm-evaluation-harness, in the same run on the same rows and
seeds. A differing number stops the benchmark. Then the limits of the machine, and the time of each
part. Tasks come from PRUNELAKE_DATA, or are the bundled tasks. Writes docs/measurements/speed.md.
benchmarks/formats.py measures the numerical cost of number formats; for a GPU see
benchmarks/llama.py.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from benchmarks import against, limits, profile_sweep, report
from benchmarks.against import Timed
from benchmarks.subject import (
    BFLOAT16,
    CLOCK,
    FLOAT32,
    MIXED,
    Explained,
    NumberFormat,
    device_of,
    explain,
    formats_of,
    order_of,
    plan_of,
    predicted,
    prepared,
    settings_of,
)
from prunelake.settings import Settings
from prunelake.sweeps.plan import SweepPlan

PACKAGES = ("torch", "transformers", "captum", "interpreto", "lm_eval")
TASKS = ("arc_easy", "arc_challenge", "openbookqa", "sst2")
BUNDLED = ("everyday_knowledge", "opinions")

WAYS = (
    "Unless stated otherwise, a time covers predictions, KernelSHAP with 3 x tokens samples and "
    "deletion curves (deleted text, both kinds, 5 fractions). captum's default scores each token "
    "of the answer in a pass over its cache. On transformers 5 this gives other scores if the "
    "answer has several tokens, so its difference is shown but not limited. interpreto draws its "
    "own masks and baseline, so its log-likelihood of the unchanged prompt is compared."
)

LIMITS = (
    "format",
    "our TFLOP/s",
    "plain products TFLOP/s",
    "share (at least 60 %)",
    "16 levels / level 0: measured",
    "by layer passes",
    "measured / counted (at most 1.15)",
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shown(rows: Iterable[list[str]]) -> list[list[str]]:
    """The rows; each is printed as soon as it is known."""
    found = []
    for row in rows:
        say(" | ".join(row))
        found.append(row)
    return found


def options_of(settings: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 2 minutes: fewer rows, levels")
    parser.add_argument("--task", default=TASKS[0] if settings.data else BUNDLED[0])
    parser.add_argument("--tasks", help="of the predictions; four by default")
    parser.add_argument("--rows", type=int, help="that are explained")
    parser.add_argument("--prediction-rows", type=int, help="float32 takes a quarter of them")
    parser.add_argument("--levels", help="0,4,8; default: every one up to half of the layers")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--device", help="cpu, cuda; default: PRUNELAKE_DEVICE")
    options = parser.parse_args()
    quick = options.quick
    options.rows = options.rows or (1 if quick else 3)
    options.prediction_rows = options.prediction_rows or (16 if quick else 200)
    options.seeds = tuple(map(int, options.seeds.split(",")))
    given = options.levels or ("0,5,10,15" if quick else None)
    options.levels = tuple(map(int, given.split(","))) if given else None
    options.tasks = (
        options.tasks.split(",") if options.tasks else [*(TASKS if settings.data else BUNDLED)]
    )
    if quick:
        options.tasks = options.tasks[:1]
    return options


def compare(
    work: SweepPlan, order: tuple[int, ...], settings: Settings, numbers: tuple[NumberFormat, ...]
) -> tuple[dict[str, Explained], dict[str, Timed]]:
    """PruneLake in every format, and the baselines in the two formats that they are compared in."""
    ours, theirs = {}, {}
    for number in numbers:
        subject = prepared(work, order, settings, number)
        say(f"ours, {number.name}")
        predicted(subject)  # the first calls of a model are slow
        ours[number.name] = explain(subject)
        if number in (FLOAT32, BFLOAT16):
            say(f"captum, interpreto, {number.name}")
            batched = prepared(work, order, settings, number)
            theirs[number.name] = against.explaining(subject, ours[number.name], batched)
    return ours, theirs


def predictions(
    options: argparse.Namespace, order: tuple[int, ...], settings: Settings
) -> Iterator[list[str]]:
    for number, rows in (
        (FLOAT32, max(1, options.prediction_rows // 4)),
        (BFLOAT16, options.prediction_rows),
    ):
        own_s = their_s = 0.0
        for task in options.tasks:
            say(f"predictions of {task}, {number.name}")
            work = plan_of(task, rows, options.levels, settings)
            subject = prepared(work, order, settings, number)
            cells, own, theirs = against.predicting(subject, number)
            own_s, their_s = own_s + own, their_s + theirs
            yield cells
        yield against.all_tasks(number, len(options.tasks), own_s, their_s)


def against_limits(
    work: SweepPlan, order: tuple[int, ...], settings: Settings, numbers: tuple[NumberFormat, ...]
) -> Iterator[list[str]]:
    for number in numbers:
        say(f"limits, {number.name}")
        subject = prepared(work, order, settings, number)
        ours, plain, _ = limits.throughput(subject)
        measured, counted = limits.nesting(subject)
        yield [
            number.name,
            f"{ours / 1e12:.3f}",
            f"{plain / 1e12:.3f}",
            f"{100 * ours / plain:.0f} %",
            f"{measured:.2f}",
            f"{counted:.2f}",
            f"{measured / counted:.2f}",
        ]


def lines(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    load, seeds = os.getloadavg()[0], options.seeds
    work = plan_of(options.task, options.rows, options.levels, settings, seeds)
    order = order_of(work, settings)
    numbers = formats_of(work, settings)
    ours, theirs = compare(work, order, settings, numbers)
    rows = shown(against.explained_rows(ours, theirs))
    rows += shown(predictions(options, order, settings))
    small = plan_of(options.task, 1, options.levels, settings)
    limit_rows = shown(against_limits(small, order, settings, numbers))
    say("shared beginnings")
    alone = replace(prepared(small, order, settings, BFLOAT16), shares_beginnings=False)
    shared = replace(alone, shares_beginnings=True)
    tokens, all_tokens = (sum(explain(own).tokens.values()) for own in (shared, alone))
    say("profile")
    subject = prepared(work, order, settings, BFLOAT16)
    profile_rows = shown(profile_sweep.profile(subject))
    command = " ".join(["python -m benchmarks.speed", *sys.argv[1:]])
    yield report.head(command, device_of(settings), PACKAGES, load)
    yield ""
    counts = [len(encoded.prompt) for encoded in work.explained_examples]
    yield (
        f"{work.spec.model}; {options.task}, {len(counts)} rows of {counts} prompt tokens, seeds "
        f"{list(seeds)}, levels {list(work.levels)} of the cosine order in float32. "
        f"Seconds are {'CPU seconds' if CLOCK == 'cpu' else 'wall time'}. {WAYS}"
    )
    yield ""
    yield from report.table(against.COLUMNS, rows)
    yield ""
    yield (
        "The limits, for one row at all levels. Plain products are `torch.matmul` with the shapes "
        "of our linear layers."
    )
    yield ""
    yield from report.table(LIMITS, limit_rows)
    yield ""
    yield (
        f"This row took {tokens:,.0f} forward tokens. Without shared beginnings of prompts and "
        f"options it would take {all_tokens:,.0f}."
    )
    yield ""
    yield f"The time of each part of a sweep: the {len(counts)} rows at all levels, bfloat16."
    yield ""
    yield from report.table(profile_sweep.COLUMNS, profile_rows)
    yield ""
    if MIXED not in numbers:
        yield f"This CPU does not multiply float32 in bfloat16, so {MIXED.name} is left out."
        yield ""
    if not torch.cuda.is_available():
        yield (
            "This machine has no GPU. `python -m benchmarks.speed --device cuda` and `python -m "
            "benchmarks.llama --device cuda` (random weights of a 7B shape) measure a GPU."
        )


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # the baselines' notices
    settings = settings_of(None)
    options = options_of(settings)
    settings = settings_of(options.device)
    report.write("speed", [*lines(options, settings)])


if __name__ == "__main__":
    main()
