"""Commands as a user types them, written from the spec of a sweep or a comparison."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from prunelake.comparison_spec import COMPARISON_EXPLANATION, ComparisonSpec
from prunelake.spec import (
    DEFAULT_NEW_TOKENS,
    Calibration,
    Explanation,
    Rows,
    Strategy,
    SweepSpec,
    Texts,
)

FIRST_TEXT_ROWS = 20
"""The texts of a run that has none yet: a few minutes on a CPU, and enough to read."""

EXPRESSIBLE = {
    "strategy": {"name", "seed", "unit", "search_rows"},
    "calibration": {"source"},
    "explain": {"methods", "seeds", "operators", "rows", "levels", "bounds_beam"},
}
"""The fields within a spec that have an option; all fields of the spec itself have an option."""

EXPRESSIBLE_IN_COMPARISONS = {
    "calibration": {"source"},
    "explain": {"methods", "seeds", "operators", "rows"},
}
"""The same for the spec of a comparison."""


def sweep_command(spec: SweepSpec) -> str:
    """The command that runs this sweep.

        sweep_command(SweepSpec(task="arc_easy", rows=Rows(sample=1400)))

    A comment at its end names the settings without an option: they belong in a spec file.
    """
    default = SweepSpec(task=spec.task)
    options = {"model": spec.reference, "task": spec.task}
    if spec.rows != default.rows:
        options["rows"] = rows_text(spec.rows)
    if spec.levels is not None:
        options["levels"] = _listed(spec.levels)
    options |= _explanation_options(spec.explain, Explanation())
    if spec.explain is not None:
        if spec.explain.levels is not None:
            options["explain-levels"] = _listed(spec.explain.levels)
        if spec.explain.bounds_beam is not None:
            options["bounds-beam"] = str(spec.explain.bounds_beam)
    options |= _text_options(spec.texts)
    if spec.strategy.label != default.strategy.label:
        options["strategy"] = spec.strategy.label
    if spec.strategy.search_rows != default.strategy.search_rows:
        options["search-rows"] = str(spec.strategy.search_rows)
    # The command refuses calibration text if the order does not read it.
    if spec.strategy.reads_text and spec.calibration.source != default.calibration.source:
        options["calibration"] = spec.calibration.source
    if spec.dtype != default.dtype:
        options["dtype"] = spec.dtype
    if spec.special_tokens != default.special_tokens:
        options["special-tokens"] = spec.special_tokens
    flags = ["--trust-remote-code"] if spec.trust_remote_code else []
    command = shlex.join(["prunelake", "sweep", *_words(options), *flags])
    known = {
        "strategy": (spec.strategy, Strategy()),
        "calibration": (spec.calibration, Calibration()),
        "explain": (spec.explain, Explanation()),
    }
    if missing := _inexpressible(known, EXPRESSIBLE):
        command += f"  # in a spec file, with {', '.join(missing)}"
    return command


def text_command(spec: SweepSpec | ComparisonSpec, example_count: int) -> str:
    """The command that measures texts of a run of this spec; it reuses the other cells."""
    texts = Texts(rows=min(FIRST_TEXT_ROWS, example_count))
    own = spec.model_copy(update={"texts": texts, "sequential": None})
    return comparison_command(own) if isinstance(own, ComparisonSpec) else sweep_command(own)


def comparison_command(spec: ComparisonSpec) -> str:
    """The command that makes this comparison.

    A comment at its end names the settings without an option: they belong in `pl.compare`.
    """
    default = COMPARISON_EXPLANATION
    options = {"rows": rows_text(spec.rows)} if spec.rows != Rows() else {}
    options |= _explanation_options(spec.explain, default) | _text_options(spec.texts)
    if spec.calibration.source != Calibration().source:
        options["calibration"] = spec.calibration.source
    if spec.special_tokens != "tokenizer":
        options["special-tokens"] = spec.special_tokens
    models = [variant.text for variant in spec.variants]
    is_trusting = any(variant.trust_remote_code for variant in spec.variants)
    flags = ["--trust-remote-code"] if is_trusting else []
    words = [*models, "--task", spec.task, *_words(options), *flags]
    command = shlex.join(["prunelake", "compare", *words])
    takes_masks = spec.explain is not None and "leverage_shap" in spec.explain.methods
    known = {
        "calibration": (spec.calibration, Calibration()),
        "explain": (spec.explain, default if takes_masks else Explanation()),
    }
    if missing := _inexpressible(known, EXPRESSIBLE_IN_COMPARISONS):
        command += f"  # by pl.compare, with {', '.join(missing)}"
    return command


def grown_rows(rows: Rows, count: int) -> Rows:
    """A selection of `count` rows that contains these rows, unless they are given by `numbers`."""
    if rows.sample is None and rows.numbers is None:
        return Rows(first=count)
    return Rows(sample=count, seed=rows.seed)


@dataclass(frozen=True)
class SettlingSweep:
    """The sweep or comparison that settles the open questions of a run.

    If the task has too few rows, `shortage` says so, `command` takes or explains as many rows as it
    can, and `gain` says in words which. `command` is None if the run already has all of them.
    Otherwise `shortage` and `gain` are empty.
    """

    command: str | None
    shortage: str
    gain: str = ""

    def sentence(self, questions: str) -> str:
        """A sentence with the command that settles the `questions`.

        settling.sentence("the inconclusive verdicts")
        """
        if not self.shortage:
            return f"To settle {questions}: {self.command}"
        text = f"{self.shortage} would settle {questions}."
        return f"{text} To {self.gain}: {self.command}" if self.command else text


def settling_sweep(
    spec: SweepSpec | ComparisonSpec, example_count: int, rows: int, explained_rows: int = 0
) -> SettlingSweep:
    """The sweep or comparison that extends a run to these numbers of rows and explained rows.

        settling_sweep(spec, example_count=100, rows=1400, explained_rows=300)

    `spec` is the spec of the run, and `example_count` its number of rows. The numbers are rounded
    up to two digits. It has at least the rows of the run. With 0 `explained_rows` it explains no
    further rows.
    """
    wanted = max(rounded_up(rows), rounded_up(explained_rows), example_count)
    available = wanted if spec.split_rows is None else max(spec.split_rows, example_count)
    count = min(wanted, available)
    explanation, known = spec.explain, 0
    if explanation is not None or explained_rows:
        if explanation is not None:
            known = example_count if explanation.rows is None else explanation.rows
        explained_rows = max(known, min(rounded_up(explained_rows), count))
        default = Explanation() if isinstance(spec, SweepSpec) else COMPARISON_EXPLANATION
        explanation = (explanation or default).model_copy(
            update={"rows": explained_rows, "level_rows": ()}
        )
    shortage = ""
    if wanted > available:
        shortage = f"Task {spec.task_name} has {available:,} rows, fewer than the {wanted:,} that"
    if shortage and count == example_count and explained_rows <= known:
        return SettlingSweep(None, shortage)
    grown = spec.model_copy(update={"rows": grown_rows(spec.rows, count), "explain": explanation})
    if isinstance(grown, ComparisonSpec):
        command = comparison_command(grown)
    else:
        command = sweep_command(grown)
    if not shortage:
        return SettlingSweep(command, shortage)
    has_more_rows = count > example_count
    gain = "use all of them" if has_more_rows else f"explain {explained_rows:,} of them"
    return SettlingSweep(command, shortage, gain)


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


def _explanation_options(explain: Explanation | None, default: Explanation) -> dict[str, str]:
    """The options that sweeps and comparisons share."""
    if explain is None:
        return {"methods": "none"}
    options = {
        name: _listed(getattr(explain, name))
        for name in ("methods", "seeds", "operators")
        if getattr(explain, name) != getattr(default, name)
    }
    return options | ({} if explain.rows is None else {"explain-rows": str(explain.rows)})


def _text_options(texts: Texts | None) -> dict[str, str]:
    """The options that sweeps and comparisons share."""
    if texts is None:
        return {}
    options = {"text-rows": str(texts.rows)}
    if texts.new_tokens != DEFAULT_NEW_TOKENS:
        options["text-tokens"] = str(texts.new_tokens)
    return options


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _listed(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


def _inexpressible(
    known: Mapping[str, tuple[BaseModel | None, BaseModel]],
    expressible: Mapping[str, Collection[str]],
) -> list[str]:
    """The settings without an option that differ from their defaults: `calibration.windows: 4`.

    `known` has the value and the default of each part of a spec.
    """
    return [
        f"{part}.{name}: {getattr(value, name)}"
        for part, (value, default) in known.items()
        if value is not None
        for name in type(default).model_fields
        if name not in expressible[part] and getattr(value, name) != getattr(default, name)
    ]
