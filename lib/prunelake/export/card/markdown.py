"""Rows and numbers of the tables in model cards."""

from prunelake.schema.number_texts import number, signed


def table_row(*cells: str) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def format_number(value: float | None, is_change: bool = False) -> str:
    """A value with three decimals, or an empty cell; a change has its sign."""
    if value is None:
        return ""
    return signed(value, 3) if is_change else number(value, 3)


def format_interval(low: float | None, high: float | None, is_change: bool = False) -> str:
    """The bounds of an interval, or `none` if the examples were too few."""
    if low is None or high is None:
        return "none"
    return f"{format_number(low, is_change)} to {format_number(high, is_change)}"
