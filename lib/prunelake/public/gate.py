"""Check release criteria from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunelake.errors import InvalidSpec, validation_message
from prunelake.gate import check
from prunelake.gate.gate_file import Gate, read_gate
from prunelake.gate.results import GateResult
from prunelake.settings import load_settings


def check_gate(
    gate: str | Path | Mapping[str, Any] | Gate, *, lake: str | Path | None = None
) -> GateResult:
    """Check the criteria of a release against the results in a lake.

        pl.check_gate("gate.yaml").result  # "passed", "failed" or "undecided"

    `gate` is the path of a gate file, or its fields. Each check has its values, its interval and
    its result; docs/gate.md defines them.

    Raises:
        InvalidSpec: the gate cannot be used, or the lake lacks its runs, tasks or levels.
        PruneLakeError: the lake cannot be read, or a file of a run is damaged.
    """
    if isinstance(gate, Mapping):
        try:
            gate = Gate.model_validate(gate)
        except ValidationError as error:
            raise InvalidSpec(f"gate: {validation_message(error.errors())}") from error
    elif not isinstance(gate, Gate):
        gate = read_gate(Path(gate))
    return check.check_gate(load_settings(lake).lake, gate)
