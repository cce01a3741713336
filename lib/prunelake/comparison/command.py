"""A comparison as the command that a user types."""

import shlex

from prunelake.command_line import grown_rows, rounded_up, rows_text
from prunelake.comparison.spec import COMPARISON_EXPLANATION, ComparisonSpec


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


def grown_comparison(
    spec: ComparisonSpec, example_count: int, rows: int, explained_rows: int
) -> ComparisonSpec:
    """The comparison with at least these numbers of rows and explained rows.

    `example_count` is the number of its rows so far. The numbers are rounded up to two digits. With
    0 `explained_rows` it explains no further rows.
    """
    explain = spec.explain
    count = max(rounded_up(rows), rounded_up(explained_rows), example_count)
    if explain is not None:
        known = example_count if explain.rows is None else explain.rows
        explain = explain.model_copy(update={"rows": max(rounded_up(explained_rows), known)})
    return spec.model_copy(update={"rows": grown_rows(spec.rows, count), "explain": explain})
