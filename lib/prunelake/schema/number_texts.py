"""Numbers as people read them: one format for tables, sentences, reports and model cards.

The page writes the same numbers (`api/page/numbers.js`).
"""

MINUS, MISSING = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float | None, decimals: int = 2) -> str:
    """A value with a real minus sign; a dash without a value.

    Halves are rounded to even.
    """
    return MISSING if value is None else _with_minus(f"{value:.{decimals}f}")


def signed(value: float | None, decimals: int = 2) -> str:
    """A difference with its sign; without a sign if it rounds to zero."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def _with_minus(text: str) -> str:
    is_zero = not text.strip("-0.")
    return text.removeprefix("-") if is_zero else text.replace("-", MINUS)
