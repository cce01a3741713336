"""Compare candidates with a baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prunelake.comparison.run import run_comparison
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import InvalidSpec, validation_message
from prunelake.public.lake import open_lake
from prunelake.public.run import Run
from prunelake.settings import load_settings
from prunelake.spec import task_name
from prunelake.sweeps.executor import LocalExecutor, Log
from prunelake.sweeps.run import run_sweep
from prunelake.tasks.row_selection import parse_rows

Candidate = str | Mapping[str, Any]
"""A model as `prunelake compare` takes it, or a dictionary with `model`, `label`, `dtype`, ..."""


def compare(
    baseline: Candidate,
    candidates: Sequence[Candidate],
    task: str | Path,
    *,
    rows: int | str | None = None,
    explain: bool | Mapping[str, Any] = True,
    lake: str | Path | None = None,
    log: Log = print,
) -> Run:
    """Compare candidates with a baseline on the same rows; the run is stored in a lake.

        run = pl.compare("base=hub:org/base", ["int8=./base-int8"], task="arc_easy", rows=400)
        run.verdicts()

    Each model is evaluated by a sweep of its own, which reuses all results in the lake. In the run,
    level 0 is the baseline, and the candidates are levels 1, 2, ...; the column `label` has their
    names.

    Args:
        baseline: `[LABEL=]REFERENCE[,NAME=VALUE...]` with the names dtype, level and strategy, or a
            dictionary with these names, `model`, `label` and `trust_remote_code`.
        candidates: the models to compare with it, in the same form.
        task: a task of the catalogue, `harness:NAME`, or the path of a YAML file.
        rows: 100 for the first 100, `sample:200:SEED`, `numbers:3,5,8`, or a JSON file.
        explain: False for predictions only, or the settings of explanations, as under `explain` in
            a YAML spec.
        lake: a folder or `s3://BUCKET/PREFIX`; by default PRUNELAKE_LAKE, else the folder `lake`.
        log: is called with each line about the progress.

    Raises:
        InvalidSpec: a value that cannot be used, or two models with one label.
        PruneLakeError: a model or the data cannot be used, or the lake cannot be written.
    """
    settings = load_settings(lake)
    fields: dict[str, Any] = {
        "baseline": baseline,
        "candidates": candidates,
        "task": str(task),
    }
    if explain is not True:
        fields["explain"] = explain or None
    if rows is not None:
        fields["rows"] = parse_rows(str(rows), task_name(str(task)))
    try:
        spec = ComparisonSpec.model_validate(fields)
    except ValidationError as error:
        raise InvalidSpec(f"compare: {validation_message(error.errors())}") from error
    run_id = run_comparison(
        spec, settings, lambda sweep: run_sweep(sweep, settings, LocalExecutor(log))
    )
    return open_lake(settings.lake).run(run_id)
