"""Commands as a user types them, written from the spec of a sweep."""

import shlex
from dataclasses import dataclass

from prunelake.spec import Calibration, Explanation, Rows, Strategy, SweepSpec

EXPRESSIBLE = {
    "strategy": {"name", "seed", "unit"},
    "calibration": {"source"},
    "explain": {"methods", "seeds", "operators", "rows", "levels", "bounds_beam"},
}
"""The fields within a spec that have an option; all fields of the spec itself have an option."""


def sweep_command(spec: SweepSpec) -> str:
    """The command that runs this sweep.

        sweep_command(SweepSpec(task="arc_easy", rows=Rows(sample=1400)))

    A comment at its end names the settings without an option: they belong in a spec file.
    """
    default = SweepSpec(task=spec.task)
    options = {"model": spec.model, "task": spec.task}
    if spec.rows != default.rows:
        options["rows"] = rows_text(spec.rows)
    if spec.levels is not None:
        options["levels"] = _listed(spec.levels)
    if spec.explain is None:
        options["methods"] = "none"
    else:
        explanation = Explanation()
        for name, option in (
            ("methods", "methods"),
            ("seeds", "seeds"),
            ("operators", "operators"),
        ):
            if getattr(spec.explain, name) != getattr(explanation, name):
                options[option] = _listed(getattr(spec.explain, name))
        if spec.explain.rows is not None:
            options["explain-rows"] = str(spec.explain.rows)
        if spec.explain.levels is not None:
            options["explain-levels"] = _listed(spec.explain.levels)
        if spec.explain.bounds_beam is not None:
            options["bounds-beam"] = str(spec.explain.bounds_beam)
    if spec.strategy.label != default.strategy.label:
        options["strategy"] = spec.strategy.label
    # The command refuses calibration text if the order does not read it.
    if spec.strategy.reads_text and spec.calibration.source != default.calibration.source:
        options["calibration"] = spec.calibration.source
    if spec.dtype != default.dtype:
        options["dtype"] = spec.dtype
    if spec.special_tokens != default.special_tokens:
        options["special-tokens"] = spec.special_tokens
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    flags = ["--trust-remote-code"] if spec.trust_remote_code else []
    command = shlex.join(["prunelake", "sweep", *words, *flags])
    if missing := _inexpressible(spec):
        command += f"  # in a spec file, with {', '.join(missing)}"
    return command


def grown_rows(rows: Rows, count: int) -> Rows:
    """A selection of `count` rows that contains these rows, unless they are given by `numbers`."""
    if rows.sample is None and rows.numbers is None:
        return Rows(first=count)
    return Rows(sample=count, seed=rows.seed)


@dataclass(frozen=True)
class SettlingSweep:
    """The sweep that settles the open questions of a run.

    If the task has too few rows, `shortage` says so, and `command` takes all rows of the task;
    `command` is None if the run already has all of them. Otherwise `shortage` is empty.
    """

    command: str | None
    shortage: str

    def sentence(self, questions: str) -> str:
        """A sentence with the command that settles the `questions`.

        settling.sentence("the inconclusive verdicts")
        """
        if not self.shortage:
            return f"To settle {questions}: {self.command}"
        text = f"{self.shortage} would settle {questions}."
        return f"{text} To use all of them: {self.command}" if self.command else text


def settling_sweep(
    spec: SweepSpec, example_count: int, rows: int, explained_rows: int = 0
) -> SettlingSweep:
    """The sweep that extends a run to these numbers of rows and explained rows.

        settling_sweep(spec, example_count=100, rows=1400, explained_rows=300)

    `spec` is the spec of the run, and `example_count` its number of rows. The numbers are rounded
    up to two digits. The sweep has at least the rows of the run. With 0 `explained_rows` it
    explains no further rows.
    """
    wanted = max(rounded_up(rows), rounded_up(explained_rows), example_count)
    available = wanted if spec.split_rows is None else max(spec.split_rows, example_count)
    count = min(wanted, available)
    explanation, known = spec.explain, 0
    if explanation is not None or explained_rows:
        if explanation is not None:
            known = example_count if explanation.rows is None else explanation.rows
        explained_rows = max(known, min(rounded_up(explained_rows), count))
        explanation = (explanation or Explanation()).model_copy(
            update={"rows": explained_rows, "level_rows": ()}
        )
    shortage = ""
    if wanted > available:
        shortage = f"Task {spec.task_name} has {available:,} rows, fewer than the {wanted:,} that"
    if shortage and count == example_count and explained_rows <= known:
        return SettlingSweep(None, shortage)
    grown = spec.model_copy(update={"rows": grown_rows(spec.rows, count), "explain": explanation})
    return SettlingSweep(sweep_command(grown), shortage)


def rounded_up(count: int) -> int:
    """A number of examples, rounded up to two digits: an estimate is not more exact."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def rows_text(rows: Rows) -> str:
    """A selection of rows as the option `--rows` takes it: `sample:200:1`."""
    if rows.first is not None:
        return str(rows.first)
    if rows.sample is not None:
        return f"sample:{rows.sample}" + (f":{rows.seed}" if rows.seed else "")
    return f"numbers:{_listed(rows.numbers or ())}"


def _listed(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


def _inexpressible(spec: SweepSpec) -> list[str]:
    """The settings without an option that differ from their defaults: `calibration.windows: 4`."""
    defaults = {"strategy": Strategy(), "calibration": Calibration(), "explain": Explanation()}
    texts = []
    for part, default in defaults.items():
        value = getattr(spec, part)
        for name in type(default).model_fields:
            if value is None or name in EXPRESSIBLE[part]:
                continue
            if getattr(value, name) != getattr(default, name):
                texts.append(f"{part}.{name}: {getattr(value, name)}")
    return texts
