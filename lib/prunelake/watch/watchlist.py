"""The watchlist: which models are evaluated by themselves, on what, and how much of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from prunelake.errors import InvalidSpec, UnknownTask, one_line
from prunelake.spec import (
    Calibration,
    Dtype,
    Explanation,
    FrozenValue,
    Levels,
    Rows,
    SpecialTokens,
    Strategy,
    SweepSpec,
)
from prunelake.tasks import catalogue

SOURCE_FIELDS = ("hub", "query", "folder", "model")


class RunQuota(FrozenValue):
    """What one entry may use: runs that are started, and the bytes (1e9) of a model's weights."""

    runs_per_round: Annotated[int, Field(ge=1)] = 4
    runs_per_day: Annotated[int, Field(ge=1)] = 24
    max_model_gb: Annotated[float, Field(gt=0)] | None = None


class HubSearch(FrozenValue):
    """Models of the hub, the most downloaded first; all `tags` have to be there."""

    author: str | None = None
    tags: tuple[str, ...] = ()
    min_downloads: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 10


class WatchlistEntry(FrozenValue):
    """Models from one source, and the sweeps that each of them gets: tasks times strategies.

    The source is exactly one of `hub` (org/name or org/name@revision), `query`, `folder` (scanned
    for saved models at any depth) and `model` (any reference). A model in a folder counts once
    nothing in it has changed for `settle_s` seconds. The other fields are those of a SweepSpec.
    """

    hub: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?(@[^@\s]+)?$")] | None = None
    query: HubSearch | None = None
    folder: Path | None = None
    model: str | None = None
    settle_s: Annotated[float, Field(ge=0)] = 60.0
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = (Strategy(),)
    rows: Rows = Rows(first=100)
    levels: Levels | None = None
    explain: Explanation | None = Explanation()
    calibration: Calibration = Calibration()
    dtype: Dtype = "float32"
    special_tokens: SpecialTokens = "tokenizer"
    budget: RunQuota = RunQuota()

    @field_validator("tasks")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            try:
                catalogue.get_task(name)
            except UnknownTask as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, name) is not None for name in SOURCE_FIELDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(SOURCE_FIELDS)}")
        return self

    @property
    def label(self) -> str:
        """The source in a few words, for people."""
        if self.query is not None:
            query = self.query
            said = [query.author or "any author", *query.tags]
            return f"query {', '.join(said)}"
        return next(
            f"{n} {getattr(self, n)}" for n in SOURCE_FIELDS if getattr(self, n) is not None
        )

    @property
    def needs_hub(self) -> bool:
        """Whether the models are looked up on the hub."""
        on_hub = self.model is not None and self.model.startswith("hub:")
        return self.hub is not None or self.query is not None or on_hub

    def sweep_specs(self, model: str) -> list[SweepSpec]:
        """The sweeps of one model of this entry."""
        shared = {
            n: getattr(self, n) for n in SweepSpec.model_fields.keys() & WatchlistEntry.model_fields
        }
        return [
            SweepSpec(**shared | {"model": model, "task": task, "strategy": strategy})
            for task in self.tasks
            for strategy in self.strategies
        ]


class Watchlist(FrozenValue):
    """The entries of one file."""

    path: Path
    entries: tuple[WatchlistEntry, ...]


def read_watchlist(path: Path) -> Watchlist:
    """Read a YAML file with `defaults` (fields of entries) and `models` (a list of entries).

    Relative folders are relative to the file.

    Raises:
        InvalidSpec: what is wrong, with the file, the entry and the field.
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
        raise InvalidSpec(f"{path}: defaults has only {', '.join(sorted(allowed))}")
    entries = [
        _parse_entry(path, n, defaults, given) for n, given in enumerate(content["models"], 1)
    ]
    return Watchlist(path=path, entries=tuple(entries))


def _parse_entry(
    path: Path, number: int, defaults: Mapping[str, Any], given: Any
) -> WatchlistEntry:
    if not isinstance(given, Mapping):
        raise InvalidSpec(
            f"{path}: entry {number}: {given!r} is no entry; begin it with `hub: ...`"
        )
    source = next((f" ({name} {given[name]})" for name in SOURCE_FIELDS if name in given), "")
    try:
        entry = WatchlistEntry.model_validate({**defaults, **given})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")
            for problem in error.errors()
        )
        raise InvalidSpec(f"{path}: entry {number}{source}: {problems}") from error
    # A sweep may run in another folder, or on another machine that has the same one.
    if entry.folder is not None:
        return entry.model_copy(update={"folder": _absolute_path(path, entry.folder)})
    if entry.model is not None and not entry.model.startswith(("hub:", "package:")):
        return entry.model_copy(update={"model": str(_absolute_path(path, Path(entry.model)))})
    return entry


def _absolute_path(watchlist: Path, path: Path) -> Path:
    return watchlist.absolute().parent / path.expanduser()
