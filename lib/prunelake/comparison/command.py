"""A comparison as the command that a user types."""

import shlex

from prunelake.command_line import SettlingSweep, grown_rows, rounded_up, rows_text
from prunelake.comparison_spec import COMPARISON_EXPLANATION, ComparisonSpec


def comparison_command(spec: ComparisonSpec) -> str:
    """The command that makes this comparison."""
    words = [*(variant.text for variant in spec.variants), "--task", spec.task]
    options = {"rows": rows_text(spec.rows)} if spec.rows != type(spec.rows)() else {}
    default = COMPARISON_EXPLANATION
    if spec.explain is None:
        options["methods"] = "none"
    else:
        for name in ("methods", "seeds", "operators"):
            if getattr(spec.explain, name) != getattr(default, name):
                options[name] = ",".join(map(str, getattr(spec.explain, name)))
        if spec.explain.rows is not None:
            options["explain-rows"] = str(spec.explain.rows)
    if spec.calibration.source != "bundled":
        options["calibration"] = spec.calibration.source
    if spec.special_tokens != "tokenizer":
        options["special-tokens"] = spec.special_tokens
    words += [word for name, value in options.items() for word in (f"--{name}", value)]
    if any(variant.trust_remote_code for variant in spec.variants):
        words.append("--trust-remote-code")
    return shlex.join(["prunelake", "compare", *words])


def settling_comparison(
    spec: ComparisonSpec, example_count: int, rows: int, explained_rows: int
) -> SettlingSweep:
    """The comparison with at least these numbers of rows and explained rows.

    `spec` is the spec of a run, and `example_count` its number of rows. The numbers are rounded up
    to two digits, and end at the rows of the task. With 0 `explained_rows` it explains no further
    rows.
    """
    wanted = max(rounded_up(rows), rounded_up(explained_rows), example_count)
    available = wanted if spec.split_rows is None else max(spec.split_rows, example_count)
    count, explain, known = min(wanted, available), spec.explain, 0
    if explain is not None:
        known = example_count if explain.rows is None else explain.rows
        explained_rows = max(known, min(rounded_up(explained_rows), count))
        explain = explain.model_copy(update={"rows": explained_rows})
    shortage = ""
    if wanted > available:
        shortage = f"Task {spec.task_name} has {available:,} rows, fewer than the {wanted:,} that"
    if shortage and count == example_count and explained_rows <= known:
        return SettlingSweep(None, shortage)
    grown = spec.model_copy(update={"rows": grown_rows(spec.rows, count), "explain": explain})
    return SettlingSweep(comparison_command(grown), shortage)
