"""The gate file: criteria, and the runs or models on which they are checked."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from prunelake.comparison_spec import COMPARISON_EXPLANATION, ComparisonSpec, ModelVariant
from prunelake.errors import InvalidSpec, one_line
from prunelake.gate.criterion import Criterion
from prunelake.spec import Explanation, FrozenValue, Rows, Strategy, SweepSpec
from prunelake.yaml_file import validate_yaml

EXAMPLE = "criteria: [{metric: accuracy, task: arc_easy, margin: 0.02}]"

SOURCES = ("baseline", "model", "runs")

UNUSED_FIELDS = {
    "baseline": {
        "levels": "name candidates",
        "strategy": "write it behind a model, like `model,strategy=cosine,level=4`",
        "dtype": "write it behind a model, like `model,dtype=bfloat16`",
    },
    "model": {"candidates": "they need a baseline; name levels"},
    "runs": dict.fromkeys(("strategy", "dtype", "rows", "explain"), "the runs have it already"),
}
"""For each source, the fields that do not go with it, and the remedy."""


class Gate(FrozenValue):
    """The criteria of a release, and the runs or models on which they are checked.

        Gate(baseline="hub:org/model", candidates=("int8=./int8",), rows=400, criteria=(
            {"metric": "accuracy", "task": "arc_easy", "margin": 0.02},
        ))

    Exactly one of these is given:

    - `baseline` with `candidates`: models to compare, each a text or fields as in `ModelVariant`.
    - `model` with `levels`: a model and numbers of removed layers, by `strategy` and `dtype`.
    - `runs`: ids of runs in the lake; `candidates` are labels, `levels` numbers.

    With `rows`, models are evaluated on these rows, unless the lake has the results. `explain` are
    the settings of their explanations. Without `rows` the gate only reads the lake. `tasks` are the
    tasks of criteria without a task.
    """

    criteria: tuple[Criterion, ...]
    tasks: tuple[str, ...] = ()
    baseline: ModelVariant | None = None
    candidates: tuple[ModelVariant, ...] = ()
    model: str | None = None
    runs: tuple[str, ...] = ()
    levels: tuple[Annotated[int, Field(ge=1)], ...] = ()
    strategy: Strategy | None = None
    dtype: str | None = None
    rows: Rows | None = None
    explain: Explanation | None = None

    @field_validator("criteria")
    @classmethod
    def _require_criteria(cls, criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        if not criteria:
            raise ValueError("is empty; give at least one")
        return criteria

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of baseline (a model, with candidates), model (a reference, with "
                "levels) and runs (a list of run ids)"
            )
        (source,) = given
        for name, remedy in UNUSED_FIELDS[source].items():
            if getattr(self, name):
                raise ValueError(f"{name} does not go with {source}; {remedy}")
        if source == "baseline" and not self.candidates:
            raise ValueError("baseline needs candidates, a list of models")
        if source == "model" and not self.levels:
            raise ValueError("model needs levels, a list of numbers of removed layers like [4]")
        if self.levels and self.candidates:
            raise ValueError("give levels (removal sweeps) or candidates (labels), not both")
        if self.explain is not None and self.rows is None:
            raise ValueError("explain needs rows: without rows the gate only reads the lake")
        return self

    @model_validator(mode="after")
    def _refuse_repetition(self) -> Self:
        for name in ("tasks", "runs", "levels", "candidate_names"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                field = name.removesuffix("_names")
                raise ValueError(f"{field} {', '.join(map(str, values))}: give each only once")
        seen: dict[tuple[object, ...], int] = {}
        for number, criterion in enumerate(self.criteria, 1):
            tasks = self.tasks_of(criterion)
            if not tasks:
                raise ValueError(
                    f"criterion {number} ({criterion.metric}) has no task; give it a task, or list "
                    "tasks for all criteria"
                )
            for task in tasks:
                first = seen.setdefault((task, *criterion.key), number)
                if first != number:
                    raise ValueError(
                        f"criteria {first} and {number} both limit {criterion.metric} on {task}; "
                        "leave one out"
                    )
        return self

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """The labels of the candidates."""
        return tuple(candidate.name for candidate in self.candidates)

    def tasks_of(self, criterion: Criterion) -> tuple[str, ...]:
        """The tasks on which a criterion counts."""
        return self.tasks if criterion.task is None else (criterion.task,)

    def criteria_of(self, task: str) -> list[Criterion]:
        """The criteria that count on a task."""
        return [criterion for criterion in self.criteria if task in self.tasks_of(criterion)]

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The tasks of all criteria, in their order."""
        tasks = [task for criterion in self.criteria for task in self.tasks_of(criterion)]
        return tuple(dict.fromkeys(tasks))

    def spec(self, task: str, rows: Rows) -> SweepSpec | ComparisonSpec:
        """The sweep or comparison that measures the models on some rows of a task.

        It explains only if a criterion needs it, by the methods that the criteria name.

        Raises:
            ValidationError: values that fit this class but not the spec, such as an unknown dtype.
        """
        if self.baseline is not None:
            return ComparisonSpec(
                baseline=self.baseline,
                candidates=self.candidates,
                task=task,
                rows=rows,
                explain=self._explanation(task, COMPARISON_EXPLANATION),
            )
        fields = {"strategy": self.strategy, "dtype": self.dtype}
        return SweepSpec.model_validate(
            {name: value for name, value in fields.items() if value is not None}
            | {"model": self.model, "task": task, "rows": rows, "levels": self.levels}
            | {"explain": self._explanation(task, Explanation())}
        )

    def _explanation(self, task: str, default: Explanation) -> Explanation | None:
        explained = [
            criterion for criterion in self.criteria_of(task) if criterion.needs_explanations
        ]
        if not explained or self.explain is not None:
            return self.explain if explained else None
        methods = {criterion.method or default.methods[0] for criterion in explained}
        if methods == {*default.methods}:
            return default
        return Explanation.model_validate({"methods": sorted(methods)})


def read_gate(path: Path) -> Gate:
    """Read a gate file.

        read_gate(Path("gate.yaml"))

    Raises:
        InvalidSpec: the file cannot be read or is not a gate; the message names the line, the value
            and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{path}: cannot be read ({one_line(error)})") from error
    return validate_yaml(text, Gate, str(path), example=EXAMPLE)
