"""Rows and numbers of the tables in model cards."""


def table_row(*cells: str) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def format_number(value: float | None, sign: str = "") -> str:
    """A value with three decimals, or an empty cell; `sign` `+` also marks positive values."""
    return "" if value is None else f"{value:{sign}.3f}"


def format_interval(low: float | None, high: float | None, sign: str = "") -> str:
    """The bounds of an interval, or `none` if the examples were too few."""
    if low is None or high is None:
        return "none"
    return f"{format_number(low, sign)} to {format_number(high, sign)}"
