"""Evaluate a model on a task at several removal levels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunelake.errors import InvalidSpec, validation_message
from prunelake.public.lake import open_lake
from prunelake.public.model import Model
from prunelake.public.run import Run
from prunelake.settings import load_settings
from prunelake.spec import SweepSpec, task_name
from prunelake.sweeps.executor import LocalExecutor, Log
from prunelake.sweeps.run import run_sweep
from prunelake.tasks.row_selection import parse_rows


def sweep(
    model: Model | str,
    task: str | Path,
    *,
    rows: int | str | None = None,
    levels: Sequence[int] | None = None,
    strategy: str = "cosine",
    explain: bool | Mapping[str, Any] = True,
    lake: str | Path | None = None,
    log: Log = print,
    trust_remote_code: bool = False,
) -> Run:
    """Evaluate a model on a task with 0, 1, 2, ... layers removed; the run is stored in a lake.

        run = pl.sweep(model, task="everyday_knowledge", levels=[0, 4, 8])
        run = pl.sweep(model, task="boolq", rows="sample:200", explain={"rows": 20})

    The sweep reuses all results in the lake: a repeated sweep returns its run at once.

    Args:
        model: a loaded model, or a model reference.
        task: a task of the catalogue, `harness:NAME`, or the path of a YAML file.
        rows: 100 for the first 100, `sample:200:SEED`, `numbers:3,5,8`, or a JSON file.
        levels: the numbers of removed layers; by default every number up to half of the layers.
        strategy: the order in which layers are removed, as in `prunelake sweep --strategy`.
        explain: False for predictions only, which are far cheaper. Or the settings of explanations,
            as under `explain` in a YAML spec: `rows`, `levels`, `methods`, `seeds` and others.
        lake: a folder or `s3://BUCKET/PREFIX`; by default PRUNELAKE_LAKE, else the folder `lake`.
        log: is called with each line about the progress.
        trust_remote_code: run the code that a model brings along; a loaded model has it already.

    Raises:
        InvalidSpec: a value that cannot be used, or a model with removed layers.
        PruneLakeError: the model or the data cannot be used, or the lake cannot be written.
    """
    if isinstance(model, Model) and model.removals:
        raise InvalidSpec(
            f"{model!r} cannot be swept: a sweep removes layers itself; call it outside of `with "
            "model.removed(...)`"
        )
    settings = model.settings if isinstance(model, Model) else load_settings()
    settings = settings.model_copy(update={"lake": load_settings(lake).lake})
    fields: dict[str, Any] = {
        "task": str(task),
        "levels": levels,
        "strategy": strategy,
    }
    if explain is not True:
        fields["explain"] = explain or None
    if rows is not None:
        fields["rows"] = parse_rows(str(rows), task_name(str(task)))
    if isinstance(model, Model):
        fields |= {"model": model.reference, "dtype": model.dtype}
        fields["trust_remote_code"] = model.trusts_remote_code
    else:
        fields |= {"model": model, "trust_remote_code": trust_remote_code}
    try:
        spec = SweepSpec.model_validate(fields)
    except ValidationError as error:
        raise InvalidSpec(f"sweep: {validation_message(error.errors())}") from error
    run_id = run_sweep(spec, settings, LocalExecutor(log))
    return open_lake(settings.lake).run(run_id)
