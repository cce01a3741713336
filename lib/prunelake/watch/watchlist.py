"""The watchlist: the models that `watch` evaluates, their sweeps, and quotas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from prunelake.comparison_spec import COMPARISON_EXPLANATION, ComparisonSpec, ModelVariant
from prunelake.errors import InvalidSpec, UnknownTask, one_line, validation_message
from prunelake.frozen_value import Levels
from prunelake.spec import (
    Calibration,
    Dtype,
    Explanation,
    FrozenValue,
    Rows,
    SpecialTokens,
    Strategy,
    SweepSpec,
)
from prunelake.tasks import catalogue

SOURCE_FIELDS = ("hub", "query", "folder", "model")


class RunQuota(FrozenValue):
    """The limits of one entry: started runs per round and per day, and 1e9 bytes of weights."""

    runs_per_round: Annotated[int, Field(ge=1)] = 4
    runs_per_day: Annotated[int, Field(ge=1)] = 24
    max_model_gb: Annotated[float, Field(gt=0)] | None = None


class HubSearch(FrozenValue):
    """A search on the hub, most downloaded models first. A model must have all `tags`."""

    author: str | None = None
    tags: tuple[str, ...] = ()
    min_downloads: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 10


class WatchlistEntry(FrozenValue):
    """Models from one source, and their sweeps: every task with every strategy.

    The source is exactly one of `hub` (org/name or org/name@revision), `query`, `folder` (searched
    for saved models at any depth) and `model` (any model reference). A model in a folder is
    evaluated once it has not changed for `settle_s` seconds. `budget` limits the entry. With a
    `baseline`, each model is compared with it instead of swept; a query with the tag
    `base_model:quantized:org/name` finds the quantised forms of a model. The other fields are those
    of a SweepSpec.
    """

    hub: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?(@[^@\s]+)?$")] | None = None
    query: HubSearch | None = None
    folder: Path | None = None
    model: str | None = None
    settle_s: Annotated[float, Field(ge=0)] = 60.0
    baseline: ModelVariant | None = None
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = (Strategy(),)
    rows: Rows = Rows()
    levels: Levels | None = None
    explain: Explanation | None = Explanation()
    calibration: Calibration = Calibration()
    dtype: Dtype = "float32"
    special_tokens: SpecialTokens = "tokenizer"
    trust_remote_code: bool = False
    budget: RunQuota = RunQuota()

    @field_validator("tasks")
    @classmethod
    def _require_known_tasks(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        for name in tasks:
            try:
                catalogue.find_task(name)
            except UnknownTask as error:
                raise ValueError(str(error)) from error
        return tasks

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        if sum(getattr(self, name) is not None for name in SOURCE_FIELDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCE_FIELDS)}")
        return self

    @model_validator(mode="after")
    def _trust_only_named_models(self) -> Self:
        if self.trust_remote_code and (self.query is not None or self.folder is not None):
            raise ValueError(
                "trust_remote_code runs the code that comes with a model, so it needs models "
                "that you name: give hub or model, one entry for each"
            )
        return self

    @model_validator(mode="after")
    def _compare_without_levels(self) -> Self:
        if self.baseline is None:
            return self
        removal = ("levels", "strategies")
        if given := [name for name in removal if name in self.model_fields_set]:
            raise ValueError(
                f"{' and '.join(given)} with baseline: the models are compared whole; leave one out"
            )
        return self

    @property
    def label(self) -> str:
        """The source as text, such as `hub org/name`."""
        if self.query is not None:
            return f"query {', '.join([self.query.author or 'any author', *self.query.tags])}"
        return next(
            f"{name} {getattr(self, name)}"
            for name in SOURCE_FIELDS
            if getattr(self, name) is not None
        )

    @property
    def needs_hub(self) -> bool:
        """Whether the search for the models needs the hub."""
        is_hub_model = self.model is not None and self.model.startswith("hub:")
        return self.hub is not None or self.query is not None or is_hub_model

    def specs(self, model: str) -> list[SweepSpec] | list[ComparisonSpec]:
        """The comparisons of one model with the baseline; without a baseline, its sweeps."""
        if self.baseline is not None:
            return self._comparison_specs(self.baseline, model)
        return self.sweep_specs(model)

    def sweep_specs(self, model: str) -> list[SweepSpec]:
        """The sweeps of one model of this entry: every task with every strategy."""
        shared = {
            name: getattr(self, name)
            for name in SweepSpec.model_fields.keys() & WatchlistEntry.model_fields
        }
        return [
            SweepSpec(**shared | {"model": model, "task": task, "strategy": strategy})
            for task in self.tasks
            for strategy in self.strategies
        ]

    def _comparison_specs(self, baseline: ModelVariant, model: str) -> list[ComparisonSpec]:
        """A comparison of one model with the baseline for every task; none with itself."""
        explain = self.explain if "explain" in self.model_fields_set else COMPARISON_EXPLANATION
        candidate = ModelVariant(
            model=model, dtype=self.dtype, trust_remote_code=self.trust_remote_code
        )
        if (model, self.dtype) == (baseline.model, baseline.dtype):
            return []
        if candidate.name == baseline.name:
            candidate = candidate.model_copy(update={"label": model})
        return [
            ComparisonSpec(
                baseline=baseline,
                candidates=(candidate,),
                task=task,
                rows=self.rows,
                calibration=self.calibration,
                explain=explain,
                special_tokens=self.special_tokens,
            )
            for task in self.tasks
        ]


class Watchlist(FrozenValue):
    """The entries of one watchlist file."""

    path: Path
    entries: tuple[WatchlistEntry, ...]


def read_watchlist(path: Path) -> Watchlist:
    """Read a YAML file with `models`, a list of entries, and `defaults`, fields for all entries.

    Relative paths are relative to the file.

    Raises:
        InvalidSpec: the file is not a watchlist; the message names the file, entry and field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSpec(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("models"), list):
        raise InvalidSpec(f"{path}: a watchlist has `models`, a list of entries")
    if unknown := content.keys() - {"defaults", "models"}:
        raise InvalidSpec(
            f"{path}: unknown field {', '.join(map(str, sorted(unknown)))}; "
            "a watchlist has `defaults` and `models`"
        )
    defaults = content.get("defaults") or {}
    allowed = WatchlistEntry.model_fields.keys() - {*SOURCE_FIELDS}
    if not isinstance(defaults, Mapping) or not defaults.keys() <= allowed:
        raise InvalidSpec(f"{path}: `defaults` allows only {', '.join(sorted(allowed))}")
    entries = [
        _parse_entry(path, number, defaults, fields)
        for number, fields in enumerate(content["models"], 1)
    ]
    return Watchlist(path=path, entries=tuple(entries))


def _parse_entry(
    path: Path, number: int, defaults: Mapping[str, Any], fields: Any
) -> WatchlistEntry:
    if not isinstance(fields, Mapping):
        raise InvalidSpec(
            f"{path}: entry {number}: {fields!r} is not an entry; begin it with `hub: ...`"
        )
    source = next((f" ({name} {fields[name]})" for name in SOURCE_FIELDS if name in fields), "")
    try:
        entry = WatchlistEntry.model_validate({**defaults, **fields})
    except ValidationError as error:
        problems = validation_message(error.errors())
        raise InvalidSpec(f"{path}: entry {number}{source}: {problems}") from error
    # A sweep may run in another working folder, or on another machine with the same folders.
    changes: dict[str, Any] = {}
    if entry.folder is not None:
        changes["folder"] = _absolute_path(path, entry.folder)
    if entry.model is not None:
        changes["model"] = _absolute_model(path, entry.model)
    if entry.baseline is not None:
        model = _absolute_model(path, entry.baseline.model)
        changes["baseline"] = entry.baseline.model_copy(update={"model": model})
    return entry.model_copy(update=changes)


def _absolute_model(watchlist: Path, model: str) -> str:
    is_path = not model.startswith(("hub:", "package:"))
    return str(_absolute_path(watchlist, Path(model))) if is_path else model


def _absolute_path(watchlist: Path, path: Path) -> Path:
    return watchlist.absolute().parent / path.expanduser()
