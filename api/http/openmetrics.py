"""Writes metrics in the OpenMetrics text format, version 1.0."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

EOF_LINE = "# EOF\n"

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]
"""The suffix of the family's name, the labels, and the value."""


@dataclass
class MetricFamily:
    """One metric: `kind` is gauge, counter, histogram or info."""

    name: str
    kind: str
    help: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, suffix: str | None = None, **labels: str) -> None:
        """Add a sample. The default suffix is `_total` for a counter and `_info` for an info."""
        if suffix is None:
            suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        self.samples.append((suffix, labels, value))


def render(families: Iterable[MetricFamily]) -> str:
    """The families in the text format, without the final `EOF_LINE`."""
    lines = []
    for family in families:
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        for suffix, labels, value in family.samples:
            written_labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(f"{family.name}{suffix}{{{written_labels}}} {value:.17g}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
