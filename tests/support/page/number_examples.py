"""Numbers and their texts, for the functions of the server and those of the page."""

from typing import Any

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"

NUMBER_EXAMPLES: list[tuple[str, list[Any], str]] = [
    ("number", [0.5, 2], "0.50"),
    ("number", [0.125, 2], "0.12"),
    ("number", [0.375, 2], "0.38"),
    ("number", [0.015, 2], "0.01"),  # the double is below 0.015
    ("number", [-0.0625, 3], f"{MINUS}0.062"),
    ("number", [1.005, 2], "1.00"),  # the double is below 1.005
    ("number", [2.5, 0], "2"),
    ("number", [-0.001, 2], "0.00"),
    ("number", [-0.0, 3], "0.000"),
    ("number", [1234.5678, 1], "1234.6"),
    ("number", [None, 2], DASH),
    ("signed", [0.125, 2], "+0.12"),
    ("signed", [-0.0004, 3], "0.000"),
    ("signed", [0.0004, 3], "0.000"),
    ("signed", [-0.5, 3], f"{MINUS}0.500"),
    ("signed", [None, 3], DASH),
    ("interval", [-0.25, 0.5, 2], f"{MINUS}0.25 to 0.50"),
    ("interval", [None, 0.5, 2], ""),
    ("interval", [0.5, None, 2], ""),
    ("percent", [0.5, 0], f"50{SPACE}%"),
    ("percent", [0.125, 1], f"12.5{SPACE}%"),
    ("percent", [0.001, 0], f"under 1{SPACE}%"),
    ("percent", [0.0001, 1], f"under 0.1{SPACE}%"),
    ("percent", [0, 0], f"0{SPACE}%"),
    ("percent", [-0.02, 0], f"{MINUS}2{SPACE}%"),
    ("percent", [None, 0], DASH),
    ("count", [0], "0"),
    ("count", [1234567], "1,234,567"),
    ("count", [None], DASH),
]
"""Function, arguments, text."""
