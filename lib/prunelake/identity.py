"""The identity of a sweep or a comparison: everything that determines its numbers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import WrongFormat, validation_message
from prunelake.spec import (
    Dtype,
    Explanation,
    FrozenValue,
    SequentialDesign,
    SpecialTokens,
    Strategy,
    SweepSpec,
    Texts,
)


class HarnessPrompts(FrozenValue):
    """The settings of a task of lm-evaluation-harness that determine its prompts.

    `version` is that in the task's YAML file; `shots` is the number of examples in a prompt, drawn
    with `shot_seed`.
    """

    version: str
    shots: Annotated[int, Field(ge=0)]
    shot_seed: int | None


FIELDS_OF_SOME_RUNS = ("harness", "remote_code", "texts")
"""Optional fields of an identity: only runs that use them have them."""


class RunIdentity(FrozenValue):
    """Everything that determines the numbers of a run; its hash is the id of the run.

    `revision` is a hub commit or the hash of the weights. `data_hash` is the hash of the selected
    examples. `calibration_hash` is the hash of the calibration windows. `search_hash` is the hash
    of the examples on which the removal order was searched. `sequential` determines the intervals.
    `harness` is given for a task of lm-evaluation-harness. `remote_code` is the hash of a model's
    own code that ran. `texts` is given if texts were measured. The device and the batch size are
    not part of the identity.
    """

    format_version: int
    revision: str
    task: str
    data_hash: str
    levels: tuple[int, ...]
    strategy: Strategy
    calibration_hash: str | None
    explain: Explanation | None
    dtype: Dtype
    special_tokens: SpecialTokens
    search_hash: str | None
    sequential: SequentialDesign | None = None
    harness: HarnessPrompts | None = None
    remote_code: str | None = None
    texts: Texts | None = None

    @property
    def run_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of this identity's canonical JSON."""
        return content_hash(self.model_dump(mode="json"))[:16]

    @model_serializer(mode="wrap")
    def _omit_unused_fields(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out unused optional fields: an option names only the runs that use it."""
        fields: dict[str, Any] = serialise(self)
        return {
            name: value
            for name, value in fields.items()
            if value is not None or name not in FIELDS_OF_SOME_RUNS
        }


class ComparedLevel(FrozenValue):
    """A level of a sweep that is a level of a comparison, under this label."""

    label: str
    run_id: str
    level: int


class ComparisonIdentity(FrozenValue):
    """Everything that determines the numbers of a comparison; its hash is the id of the run.

    `compared` are the levels of the comparison: the baseline and the candidates, each taken from a
    sweep whose id covers its weights and settings. `explain` has the levels of the comparison.
    """

    kind: Literal["comparison"] = "comparison"
    format_version: int
    compared: tuple[ComparedLevel, ...]
    explain: Explanation | None
    sequential: SequentialDesign | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """The numbers of the levels: 0 is the baseline."""
        return tuple(range(len(self.compared)))

    @property
    def run_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of this identity's canonical JSON."""
        return content_hash(self.model_dump(mode="json"))[:16]


RunKind = Literal["sweep", "comparison", "import"]


def run_kind(identity: str) -> RunKind:
    """The origin of a run, from the JSON of its identity."""
    kind: RunKind = json.loads(identity).get("kind", "sweep")
    return kind


def parse_identity(text: str) -> RunIdentity | ComparisonIdentity:
    """The identity of a sweep or of a comparison from its JSON.

    Raises:
        ValidationError: other JSON, as the identity of an import.
    """
    identity_class = ComparisonIdentity if run_kind(text) == "comparison" else RunIdentity
    return identity_class.model_validate_json(text)


def sweep_spec(run: Mapping[str, Any]) -> SweepSpec:
    """The spec of a sweep, from its row of `runs`.

    Raises:
        WrongFormat: this version of PruneLake cannot read the spec.
    """
    return _stored_spec(run, SweepSpec)


def stored_spec(run: Mapping[str, Any]) -> SweepSpec | ComparisonSpec:
    """The spec of a sweep or of a comparison, from its row of `runs`.

    Raises:
        WrongFormat: as `sweep_spec`.
    """
    is_comparison = run_kind(run["identity"]) == "comparison"
    return _stored_spec(run, ComparisonSpec) if is_comparison else _stored_spec(run, SweepSpec)


Spec = TypeVar("Spec", SweepSpec, ComparisonSpec)


def _stored_spec(run: Mapping[str, Any], spec_class: type[Spec]) -> Spec:
    try:
        return spec_class.model_validate_json(run["spec"])
    except ValidationError as error:
        problem = validation_message(error.errors(), whole="spec")
        raise WrongFormat(
            f"run {run['run_id']}: this version of PruneLake cannot read its spec ({problem}); "
            "retire the run, or read it with the version that wrote it"
        ) from error


def content_hash(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
