"""Check release criteria from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prunelake.errors import InvalidSpec, validation_message
from prunelake.gate import check
from prunelake.gate.gate_file import Gate, read_gate
from prunelake.gate.results import GateResult
from prunelake.settings import load_settings
from prunelake.spec import SweepSpec

if TYPE_CHECKING:
    from prunelake.sweeps.executor import Log


def check_gate(
    gate: str | Path | Mapping[str, Any] | Gate,
    *,
    until_decided: bool = False,
    max_rows: int | None = None,
    max_minutes: float | None = None,
    lake: str | Path | None = None,
    log: "Log" = print,
) -> GateResult:
    """Check the criteria of a release.

        pl.check_gate("gate.yaml").result  # "passed", "failed" or "undecided"

    A gate with `rows` evaluates its models; otherwise only the lake is read. Each check in `checks`
    has its values, its interval and its result; docs/gate.md defines them.

    Args:
        gate: the path of a gate file, or its fields.
        until_decided: evaluate more rows in rounds until the gate is decided.
        max_rows: with `until_decided`, the most rows of a task.
        max_minutes: with `until_decided`, start no round that would exceed this time.
        lake: a folder or `s3://BUCKET/PREFIX`; by default PRUNELAKE_LAKE, else the folder `lake`.
        log: is called with each line about the progress.

    Raises:
        InvalidSpec: the gate cannot be used, or the lake lacks its runs, tasks or candidates.
        PruneLakeError: a model or the lake cannot be used, or a file of a run is damaged.
    """
    if isinstance(gate, Mapping):
        try:
            gate = Gate.model_validate(gate)
        except ValidationError as error:
            raise InvalidSpec(f"gate: {validation_message(error.errors())}") from error
    elif not isinstance(gate, Gate):
        gate = read_gate(Path(gate))
    settings = load_settings(lake)
    if not until_decided and gate.rows is None:
        return check.check_gate(settings.lake, gate)
    from prunelake.gate.measure import measure_and_check
    from prunelake.gate.until_decided import gate_until_decided
    from prunelake.sweeps.executor import LocalExecutor
    from prunelake.sweeps.run import run_sweep
    from prunelake.sweeps.until_decided.run import Limits

    def evaluate(spec: SweepSpec) -> str:
        return run_sweep(spec, settings, LocalExecutor(log))

    if until_decided:
        limits = Limits(max_rows=max_rows, max_minutes=max_minutes)
        return gate_until_decided(gate, limits, settings, evaluate, lambda found: log(str(found)))
    assert gate.rows is not None
    return measure_and_check(gate, gate.rows, settings, evaluate)
