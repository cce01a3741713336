"""The attributions that a sweep computes and scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from prunelake.frozen_value import FrozenValue, LevelRows, Levels, Seed

DEFAULT_LEVERAGE_SAMPLES = 1.5
"""Masks per token: half the number that the paper uses for KernelSHAP and LIME."""

DEFAULT_UNPRUNED_SAMPLES = 7.0
DEFAULT_DIFFERENCE_SAMPLES = (0.5, 1.5)
"""Masks per token of `difference_shap`, chosen in docs/statistics.md."""

Method = Literal["difference_shap", "kernel_shap", "leverage_shap", "lime", "input_x_gradient"]
RANDOM_RANKING: Literal["random"] = "random"
"""The method of a seeded ranking, equal at all levels: the baseline for every explanation."""

Ranking = Method | Literal["random"]


@dataclass(frozen=True)
class MethodDefinition:
    """A method that attributes.

    - `own_settings`: the fields of `Explanation` that only this method reads.
    - `is_masking`: it replaces tokens by `baseline_token`.
    - `is_sampled`: its scores depend on a seed.
    - `explains_candidates`: it explains a model by itself, so that a comparison can use it.
    """

    own_settings: tuple[str, ...] = ()
    is_masking: bool = True
    is_sampled: bool = True
    explains_candidates: bool = True

    @property
    def settings(self) -> tuple[str, ...]:
        """The fields of `Explanation` that determine the scores of the method."""
        return (*(("baseline_token",) if self.is_masking else ()), *self.own_settings)


METHODS: Mapping[Method, MethodDefinition] = {
    "difference_shap": MethodDefinition(
        ("unpruned_samples", "difference_samples"), explains_candidates=False
    ),
    "kernel_shap": MethodDefinition(),
    "leverage_shap": MethodDefinition(("leverage_samples",)),
    "lime": MethodDefinition(),
    "input_x_gradient": MethodDefinition(is_masking=False, is_sampled=False),
}
"""Every method; `evaluation.attributions` computes the scores."""

METHOD_CHOICES = ", ".join(METHODS)
COMPARISON_METHOD_CHOICES = ", ".join(
    name for name, definition in METHODS.items() if definition.explains_candidates
)

Operator = Literal["delete_text", "replace"]
AopcVariant = Literal["eraser", "paper", "normalised"]

Fraction = Annotated[float, Field(gt=0, le=1)]
SamplesPerToken = Annotated[float, Field(gt=0, le=1000)]


class Explanation(FrozenValue):
    """The attributions to compute and score.

    Explaining costs hundreds of times more than predicting. So `rows` limits it to the first n
    examples of the sweep, `levels` limits it to a subset of the levels, and `level_rows` limits
    single levels above 0 to fewer rows. `baseline_token` replaces a masked token. `bounds_beam` is
    the width of the beam search for the smallest and the largest area over the deletion curve of
    any ranking; None skips the search.

    Masks per token: `leverage_shap` takes `leverage_samples`. `difference_shap` takes
    `unpruned_samples` at level 0, and `difference_samples` at other levels: it starts with the
    first number, and takes the next numbers while a level differs too much from level 0.
    `kernel_shap` and `lime` take 3, as in the paper.
    """

    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("difference_shap",)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    operators: Annotated[tuple[Operator, ...], Field(min_length=1)] = ("delete_text", "replace")
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.2, 0.3, 0.4, 0.5)
    rows: Annotated[int, Field(ge=1)] | None = None
    levels: Levels | None = None
    level_rows: LevelRows = ()
    baseline_token: Annotated[int, Field(ge=0)] = 0
    bounds_beam: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    leverage_samples: SamplesPerToken = DEFAULT_LEVERAGE_SAMPLES
    unpruned_samples: SamplesPerToken = DEFAULT_UNPRUNED_SAMPLES
    difference_samples: Annotated[tuple[SamplesPerToken, ...], Field(min_length=1)] = (
        DEFAULT_DIFFERENCE_SAMPLES
    )

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        own_settings = ((m, name) for m, known in METHODS.items() for name in known.own_settings)
        for method, name in own_settings:
            is_default = getattr(self, name) == type(self).model_fields[name].default
            if not is_default and method not in self.methods:
                raise ValueError(
                    f"{name} is for {method}, which is not among the methods "
                    + ", ".join(self.methods)
                )
        if self.difference_samples[-1] > self.unpruned_samples:
            raise ValueError(
                f"difference_samples {self.difference_samples[-1]} exceeds unpruned_samples "
                f"{self.unpruned_samples}: level 0 takes part in every difference"
            )
        return self

    def rows_at(self, level: int, example_count: int) -> int:
        """The number of explained examples at a level, in a sweep of `example_count` examples."""
        rows = example_count if self.rows is None else min(self.rows, example_count)
        return min(rows, dict(self.level_rows).get(level, rows))

    @property
    def rankings(self) -> list[tuple[Ranking, int]]:
        """The pairs of a method and a seed that rank the tokens of a prompt, including `random`.

        A method without sampling has seed 0.
        """
        rankings: list[tuple[Ranking, int]] = [
            (method, seed)
            for method in self.methods
            for seed in (self.seeds if METHODS[method].is_sampled else (0,))
        ]
        return rankings + [(RANDOM_RANKING, seed) for seed in self.seeds]

    def method_settings(self, method: Ranking) -> dict[str, object]:
        """The settings that determine a method's scores: equal settings give equal scores."""
        if method == RANDOM_RANKING:
            return {}
        return {name: getattr(self, name) for name in METHODS[method].settings}

    @field_validator(
        *("methods", "seeds", "operators", "fractions", "levels", "level_rows"),
        "difference_samples",
    )
    @classmethod
    def _sorted_set(cls, value: tuple[object, ...] | None) -> tuple[object, ...] | None:
        return None if value is None else tuple(sorted(set(value)))  # type: ignore[type-var]  # each field has one sortable type
