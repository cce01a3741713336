"""`prunelake export`: a pruned checkpoint."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from prunelake.cli.console import (
    CalibrationTextOption,
    LakeOption,
    OrderDtypeOption,
    OrderRunOption,
    OrderStrategyOption,
    load_settings,
    parse_strategy,
)
from prunelake.errors import InvalidSpec
from prunelake.export.model_card import CheckpointKind
from prunelake.spec import UNIT_NAMES, Calibration, Dtype


def export(
    model: Annotated[str, typer.Argument(help="Model reference, as of a sweep.")],
    level: Annotated[int, typer.Option(help="How many layers are removed.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    strategy: OrderStrategyOption = "cosine",
    kind: Annotated[
        CheckpointKind,
        typer.Option(help="Loads anywhere, or lacks the weights and loads by PruneLake."),
    ] = CheckpointKind.portable,
    dtype: OrderDtypeOption = None,
    run: OrderRunOption = None,
    calibration: CalibrationTextOption = "bundled",
    calibrator: Annotated[
        str | None,
        typer.Option(help="Also a calibrator of the level: temperature, affine, isotonic, ..."),
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Write a checkpoint without what a level removes, and a card of what is known."""
    if dtype is not None and dtype not in get_args(Dtype):
        raise InvalidSpec(f"--dtype {dtype}: choose {', '.join(get_args(Dtype))}")
    wanted = parse_strategy(strategy)
    from prunelake.export.export import ExportRequest
    from prunelake.export.export import export_model as write

    settings = load_settings(lake)
    text = Calibration(source=calibration)
    order = ExportRequest(model, wanted, level, kind, dtype, run, text, calibrator)  # type: ignore[arg-type]  # checked above
    found = write(order, out, settings, typer.echo)
    typer.echo(
        f"{out}: {model} without {UNIT_NAMES[wanted.unit]} "
        f"{', '.join(map(str, sorted(found.pruned.layers)))} ({kind}, {found.pruned.dtype}, "
        f"{found.weight_bytes / 1e6:.1f} MB of weights)\nThe choice is from {found.pruned.origin}."
    )
    if found.calibrator is not None:
        typer.echo(
            f"calibrator.json: {found.calibrator.name}, fitted to {found.calibrator.fit_rows} "
            f"predictions on {found.calibrator.run.task} of run {found.calibrator.run.run_id}."
        )
    if found.warning is not None:
        typer.echo(f"warning: {found.warning}", err=True)
