"""The names of a run's levels: levels of removal have numbers, candidates have labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import polars as pl

from .wording import at_levels, isolated, listed


@dataclass(frozen=True)
class LevelNames:
    """The names of the levels of one run in sentences and charts.

        names = LevelNames.of(levels)
        f"Accuracy falls {names.at([1, 2])}"  # at levels 1 and 2, or: for int8 and int4

    `labels` has the label of each level of a comparison, with the baseline at 0; it is empty for a
    removal sweep. `among` are all levels of a removal sweep.
    """

    labels: Mapping[int, str] = field(default_factory=dict)
    among: tuple[int, ...] = ()

    @classmethod
    def of(cls, levels: pl.DataFrame) -> Self:
        """The names in the columns `level`, `label` and `kind` of rows of one run."""
        columns = (levels[name].to_list() for name in ("level", "label", "kind"))
        distinct = sorted(set(zip(*columns, strict=True)), key=lambda row: row[0])
        labels = {level: label for level, label, kind in distinct if kind == "candidate"}
        return cls(labels, tuple(level for level, *_ in distinct))

    @property
    def is_comparison(self) -> bool:
        """Whether the levels are candidates, which have no order."""
        return bool(self.labels)

    @property
    def baseline(self) -> str:
        """The baseline in a sentence: the unpruned model, or the baseline."""
        return "the baseline" if self.is_comparison else "the unpruned model"

    @property
    def kind(self) -> str:
        """The word for a level above 0: level, or candidate."""
        return "candidate" if self.is_comparison else "level"

    @property
    def preposition(self) -> str:
        """The preposition before several levels: at, or for."""
        return "for" if self.is_comparison else "at"

    def in_baseline_words(self, text: str) -> str:
        """A text about the unpruned model, which says `the baseline` in a comparison."""
        return text.replace("unpruned", "the baseline") if self.is_comparison else text

    def name(self, level: int) -> str:
        """One level: `level 4`, or a label."""
        return isolated(self.labels[level]) if self.is_comparison else f"level {level}"

    def short(self, level: int) -> str:
        """One level in a table: its number, or its label, with the baseline marked."""
        if not self.is_comparison:
            return str(level)
        return isolated(self.labels[level]) + " (baseline)" * (level == 0)

    def at(self, chosen: Sequence[int]) -> str:
        """Ascending levels with a preposition: `at levels 1 to 3 and 6`, or `for int8 and int4`."""
        if self.is_comparison:
            labels = [isolated(self.labels[level]) for level in chosen]
            return f"{self.preposition} {listed(labels)}"
        return f"{self.preposition} {at_levels(chosen, self.among or chosen)}"


REMOVALS = LevelNames()
"""The names of the levels of any removal sweep."""
