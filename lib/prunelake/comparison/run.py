"""Compare candidates with a baseline: measure each model by a sweep, and join the sweeps."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from prunelake.analysis.analyse import analyse
from prunelake.comparison.join import JoinedSweeps, join_sweeps
from prunelake.comparison_spec import COMPARISON_STRATEGY, ComparisonSpec
from prunelake.identity import ComparedLevel, ComparisonIdentity
from prunelake.lake import commit, read
from prunelake.models.files.weight_size import weight_bytes
from prunelake.models.sources import resolve_model
from prunelake.schema.run_tables import EXAMPLES, LAYERS, LEVELS
from prunelake.schema.table import FORMAT_VERSION
from prunelake.settings import Settings
from prunelake.spec import SweepSpec, removed_parts
from prunelake.sweeps.early_checks import check_sweep


def run_comparison(
    spec: ComparisonSpec, settings: Settings, evaluate: Callable[[SweepSpec], str]
) -> str:
    """Compare candidates with a baseline on the same rows of a task. Returns the run's id.

        run_comparison(spec, settings, lambda sweep: run_sweep(sweep, settings))

    Each model is measured by a sweep of its own, which reuses what the lake has. The comparison
    copies their results as its levels. A comparison that the lake has is not made again.

    Raises:
        PruneLakeError: as `check_sweep`, for every model before the first is loaded; as
            `run_sweep`; or as `join_sweeps`.
    """
    sweeps = [spec.sweep_spec(level) for level in range(len(spec.variants))]
    for sweep in sweeps:
        check_sweep(sweep, settings)
    identity = ComparisonIdentity(
        format_version=FORMAT_VERSION,
        compared=tuple(
            ComparedLevel(label=variant.name, run_id=evaluate(sweep), level=variant.level)
            for variant, sweep in zip(spec.variants, sweeps, strict=True)
        ),
        explain=spec.explain,
        sequential=spec.sequential,
    )
    if not read.has_run(settings.lake, identity.run_id):
        _write(spec, identity, settings)
    if identity.run_id in read.unanalysed_run_ids(settings.lake):
        analyse(settings.lake, identity.run_id)
    return identity.run_id


def _write(spec: ComparisonSpec, identity: ComparisonIdentity, settings: Settings) -> None:
    started = time.perf_counter()
    joined = join_sweeps(settings.lake, identity)
    baseline = joined.runs[0]
    split_rows = SweepSpec.model_validate_json(baseline["spec"]).split_rows
    columns = ("model", "revision", "architecture", "dtype", "task", "split", "example_count")
    levels = [
        _level_row(spec, identity, joined, level, settings) for level in range(len(joined.runs))
    ]
    frames = {
        **joined.cells,
        EXAMPLES.name: joined.examples,
        LEVELS.name: LEVELS.frame(levels),
        LAYERS.name: LAYERS.frame([]),
    }
    run = {
        **{name: baseline[name] for name in columns},
        "run_id": identity.run_id,
        "created_at": datetime.now(UTC),
        "strategy": COMPARISON_STRATEGY,
        "levels": [*identity.levels],
        "layer_count": None,
        "removal_order": [],
        "device": "copied",
        "code_version": version("prunelake"),
        "spec": spec.model_copy(update={"split_rows": split_rows}).model_dump_json(),
        "identity": identity.model_dump_json(),
        "duration_s": time.perf_counter() - started,
        "forward_tokens": 0,
        "copied": joined.copied(),
    }
    commit.write_run(settings.lake, run, frames)


def _level_row(
    spec: ComparisonSpec,
    identity: ComparisonIdentity,
    joined: JoinedSweeps,
    level: int,
    settings: Settings,
) -> dict[str, Any]:
    variant, run = spec.variants[level], joined.runs[level]
    source = resolve_model(
        variant.reference,
        settings.cache.expanduser(),
        variant.strategy.unit,
        uses_known_hash=True,
        trust_remote_code=variant.trust_remote_code,
    )
    removed_layers = sorted(removed_parts(run["removal_order"], variant.level, run["layer_count"]))
    return {
        "run_id": identity.run_id,
        "level": level,
        "label": variant.name,
        "model": run["model"],
        "revision": run["revision"],
        "dtype": run["dtype"],
        "strategy": variant.strategy.label if variant.level else "",
        "removed_layers": removed_layers,
        "weight_bytes": weight_bytes(source, variant.dtype, variant.strategy.unit, removed_layers),
        "shares_tokens": joined.shares_tokens[level],
        "source_run_id": run["run_id"],
        "source_level": variant.level,
    }
