"""The specification of a comparison, as frozen values."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from prunelake.explanation_spec import (
    COMPARISON_METHOD_CHOICES,
    DEFAULT_UNPRUNED_SAMPLES,
    METHODS,
)
from prunelake.spec import (
    Calibration,
    Dtype,
    Explanation,
    FrozenValue,
    Rows,
    SequentialDesign,
    SpecialTokens,
    Strategy,
    SweepSpec,
    Texts,
    pinned_reference,
    task_name,
)

COMPARISON_EXPLANATION = Explanation(
    methods=("leverage_shap",), leverage_samples=DEFAULT_UNPRUNED_SAMPLES
)
"""The explanations of a comparison. Each model is explained by itself, as level 0 of a sweep."""


COMPARISON_STRATEGY = "comparison"
"""The strategy of a run whose levels are candidates."""

TEXT_SETTINGS = ("dtype", "level", "strategy")
"""The settings of a model that a text can give."""


class ModelVariant(FrozenValue):
    """A model in a comparison: a reference, a number format, and the parts that it lacks.

    `level` is the number of parts that `strategy` removes; 0 keeps the model whole. `label` is its
    name in tables and charts, by default the last part of the reference with the other settings.
    `commit` is that of a `SweepSpec`.

    A text is accepted in place of the fields: [LABEL=]REFERENCE[,NAME=VALUE...], such as
    `int8=./smollm2-int8` or `hub:org/name,strategy=cosine,level=4`.
    """

    model: Annotated[str, Field(min_length=1)]
    label: str = ""
    dtype: Dtype = "float32"
    level: Annotated[int, Field(ge=0)] = 0
    strategy: Strategy = Strategy()
    trust_remote_code: bool = False
    commit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        reference, *settings = value.split(",")
        label, equals, rest = reference.partition("=")
        has_label = equals and not re.search(r"[/:]", label)
        fields = {"label": label, "model": rest} if has_label else {"model": reference}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if name not in TEXT_SETTINGS or not equals:
                raise ValueError(
                    f"{setting!r} is no setting of a model; write NAME=VALUE with a name among "
                    + ", ".join(TEXT_SETTINGS)
                )
            fields[name] = text
        return fields

    @property
    def reference(self) -> str:
        """The reference of the model at its commit."""
        return pinned_reference(self.model, self.commit)

    @property
    def name(self) -> str:
        """The label, or the name that follows from the other fields."""
        if self.label:
            return self.label
        settings: list[str] = [self.dtype] if self.dtype != "float32" else []
        settings += [f"{self.strategy.label} {self.level}"] if self.level else []
        last = re.split(r"[/:]", self.model.rstrip("/"))[-1]
        return " ".join([last.removesuffix(".gguf"), *settings])

    @property
    def text(self) -> str:
        """The text from which this value can be read again, without `trust_remote_code`."""
        default = ModelVariant(model=self.model)
        settings = [f"dtype={self.dtype}"] if self.dtype != default.dtype else []
        if self.level:
            settings += [f"strategy={self.strategy.label}", f"level={self.level}"]
        reference = f"{self.label}={self.reference}" if self.label else self.reference
        return ",".join([reference, *settings])


class ComparisonSpec(FrozenValue):
    """A comparison of candidates with a baseline on the same rows of one task.

    In the run, level 0 is the baseline, and each candidate is a level, from 1. `explain.levels` and
    `explain.level_rows` count so. The other fields are those of a `SweepSpec`; a run records the
    number of rows of its split as `split_rows`.
    """

    baseline: ModelVariant
    candidates: Annotated[tuple[ModelVariant, ...], Field(min_length=1)]
    task: str
    rows: Rows = Rows()
    calibration: Calibration = Calibration()
    explain: Explanation | None = COMPARISON_EXPLANATION
    special_tokens: SpecialTokens = "tokenizer"
    texts: Texts | None = None
    sequential: SequentialDesign | None = None
    split_rows: int | None = None

    @field_validator("explain", mode="before")
    @classmethod
    def _fill_in_defaults(cls, value: Any) -> Any:
        """Settings of explanations that do not name a method, or a number of masks, get ours."""
        if not isinstance(value, Mapping):
            return value
        default = COMPARISON_EXPLANATION
        methods = value.get("methods", default.methods)
        masks = {"leverage_samples": default.leverage_samples}
        return (masks if "leverage_shap" in methods else {}) | {**value, "methods": methods}

    @property
    def variants(self) -> tuple[ModelVariant, ...]:
        """The model of each level: the baseline, then the candidates."""
        return (self.baseline, *self.candidates)

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        names = [variant.name for variant in self.variants]
        for name in names:
            if not name.isprintable():
                raise ValueError(f"label {name!r} has a character that cannot be printed")
            if names.count(name) > 1:
                raise ValueError(f"two models have the label {name!r}; give them different labels")
        return self

    @model_validator(mode="after")
    def _check_methods(self) -> Self:
        for method in self.explain.methods if self.explain else ():
            if not METHODS[method].explains_candidates:
                raise ValueError(
                    f"{method} explains the removal levels of one model; take one of "
                    + COMPARISON_METHOD_CHOICES
                )
        return self

    @property
    def task_name(self) -> str:
        """The name of the task, without the path of its file."""
        return task_name(self.task)

    def sweep_spec(self, level: int) -> SweepSpec:
        """The sweep that measures the model of a level of this comparison."""
        variant = self.variants[level]
        explain = self.explain
        if explain is not None:
            explained = {0, *(explain.levels or range(len(self.variants)))}
            rows = dict(explain.level_rows).get(level, explain.rows)
            own = {"levels": (variant.level,), "level_rows": (), "rows": rows}
            explain = explain.model_copy(update=own) if level in explained and rows != 0 else None
        return SweepSpec(
            model=variant.model,
            commit=variant.commit,
            task=self.task,
            rows=self.rows,
            levels=(variant.level,),
            # The order of a whole model does not matter; `last` measures nothing.
            strategy=variant.strategy if variant.level else Strategy(name="last"),
            calibration=self.calibration,
            explain=explain,
            dtype=variant.dtype,
            special_tokens=self.special_tokens,
            texts=self.texts,
            trust_remote_code=variant.trust_remote_code,
        )
