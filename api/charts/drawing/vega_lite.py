"""Charts in Vega-Lite, as dictionaries, with the few words that build them.

    points = Part(data=rows).mark("point", filled=True).encode(
        x=field("level:Q", title="removed layers"), y="value:Q"
    )
    chart = Part(layer=[points], width=300)

Tests validate every chart against the schema of Vega-Lite; requests need not.
"""

import re
from typing import Any, Self

import polars as pl

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

TYPES = {"Q": "quantitative", "N": "nominal", "O": "ordinal"}

SECOND_ENDS = ("x2", "y2")
"""Channels that have the type of the first end."""

WORD = re.compile(r"\w+")


class Part(dict[str, Any]):
    """A chart or a part of it; its methods return changed copies.

    `data` is a data frame; `with_named_data` turns the data frames of a chart into JSON.
    """

    def mark(self, kind: str, **properties: Any) -> Self:
        """With this mark."""
        return self.properties(mark={"type": kind, **properties})

    def encode(self, **channels: Any) -> Self:
        """With these channels, too: a text such as `level:Q`, or a definition."""
        encoding = {
            name: _channel(name, channel) if isinstance(channel, str) else channel
            for name, channel in channels.items()
        }
        return self.properties(encoding=self.get("encoding", {}) | encoding)

    def filter(self, test: str) -> Self:
        """Only with the rows for which the expression `test` is true."""
        return self.properties(transform=[*self.get("transform", ()), {"filter": test}])

    def properties(self, **properties: Any) -> Self:
        """With these properties of Vega-Lite."""
        return type(self)(self, **properties)


def field(shorthand: str, **options: Any) -> dict[str, Any]:
    """The channel of a column, as `level:Q`: Q is quantitative, N nominal, O ordinal."""
    name, _, kind = shorthand.partition(":")
    return {"field": name, "type": TYPES[kind], **options}


def _channel(name: str, shorthand: str) -> dict[str, Any]:
    channel = field(shorthand)
    return {"field": channel["field"]} if name in SECOND_ENDS else channel


def with_named_data(chart: Part) -> dict[str, Any]:
    """The chart with its data frames as JSON: each once in `datasets`, and its name in `data`.

    A data frame keeps the columns that a text of the chart names: Vega-Lite copies rows often.
    """
    datasets: dict[int, tuple[str, pl.DataFrame]] = {}
    words: set[str] = set()

    def named(part: Any) -> Any:
        if isinstance(part, pl.DataFrame):
            name, _ = datasets.setdefault(id(part), (f"data-{len(datasets)}", part))
            return {"name": name}
        if isinstance(part, dict):
            return {key: named(value) for key, value in part.items()}
        if isinstance(part, str):
            words.update(WORD.findall(part))
        return [named(member) for member in part] if isinstance(part, (list, tuple)) else part

    spec: dict[str, Any] = named(chart)
    spec["datasets"] = {name: _records(rows, words) for name, rows in datasets.values()}
    return spec


def _records(rows: pl.DataFrame, names: set[str]) -> list[dict[str, Any]]:
    """The rows by column, without columns of other names, and with null for NaN.

    Most data frames of charts have few rows, for which expressions of polars take longest.
    """
    columns = [c for c in rows.get_columns() if c.name in names] or rows.get_columns()
    values = [[None if v != v else v for v in column.to_list()] for column in columns]
    shown = [column.name for column in columns]
    return [dict(zip(shown, row, strict=True)) for row in zip(*values, strict=True)]
