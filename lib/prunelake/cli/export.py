"""`prunelake export`: write a pruned checkpoint."""

import re
from pathlib import Path
from typing import Annotated, get_args

import typer

from prunelake.cli.console import (
    REFERENCE_HELP,
    CalibrationTextOption,
    LakeOption,
    OrderDtypeOption,
    OrderRunOption,
    OrderStrategyOption,
    load_settings,
    parse_strategy,
)
from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.errors import InvalidSpec
from prunelake.extras import require_extra
from prunelake.spec import UNIT_NAMES, Calibration, CheckpointKind, Dtype, GgufQuantisation


def export(
    model: Annotated[str, typer.Argument(help=REFERENCE_HELP)],
    level: Annotated[int, typer.Option(help="The number of layers to remove.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    strategy: OrderStrategyOption = "cosine",
    kind: Annotated[
        CheckpointKind,
        typer.Option(
            help="portable: transformers loads it; compact: smaller, PruneLake loads it; gguf: for "
            "llama.cpp; nemotron-nas: for vLLM."
        ),
    ] = CheckpointKind.portable,
    quantize: Annotated[
        GgufQuantisation | None, typer.Option(help="With --kind gguf, the format of matrices.")
    ] = None,
    with_code: Annotated[
        bool,
        typer.Option(
            "--with-code",
            help="With --kind compact: transformers alone loads it, with trust_remote_code.",
        ),
    ] = False,
    dtype: OrderDtypeOption = None,
    run: OrderRunOption = None,
    calibration: CalibrationTextOption = "bundled",
    calibrator: Annotated[
        str | None,
        typer.Option(help="Also write this calibrator: temperature, affine, isotonic, ..."),
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option(help="The largest file of weights: 5GB, 500MB.")
    ] = "50GB",
    license_name: Annotated[
        str, typer.Option("--license", help="For the card, if the model's file does not state it.")
    ] = "",
    base_model: Annotated[
        str, typer.Option(help="The unpruned model on the hub, for the card: ORG/NAME.")
    ] = "",
    lake: LakeOption = None,
) -> None:
    """Write a checkpoint of one level with a model card."""
    if not re.fullmatch(r"[1-9][0-9]*(KB|MB|GB|TB)", max_shard_size):
        raise InvalidSpec(f"--max-shard-size {max_shard_size}: give a size such as 5GB or 500MB")
    if dtype is not None and dtype not in get_args(Dtype):
        raise InvalidSpec(f"--dtype {dtype}: choose {', '.join(get_args(Dtype))}")
    settings = load_settings(lake)
    from prunelake.lake.read import read_run_columns

    runs = read_run_columns(settings.lake, ["run_id", "strategy"])
    strategies = dict(runs.iter_rows())
    if COMPARISON_STRATEGY in (strategy, strategies.get(run)):
        raise InvalidSpec(
            "a candidate of a comparison is a model already: load its own reference, which the "
            "view levels lists. If it lacks layers, give --strategy and --level of its sweep"
        )
    chosen_strategy = parse_strategy(strategy)
    require_extra("models")
    from prunelake.models.levels import check_levels

    check_levels(model, [level], chosen_strategy.unit)  # before torch loads
    from prunelake.export.export import ExportRequest, export_model

    text = Calibration(source=calibration)
    request = ExportRequest(
        model,
        chosen_strategy,
        level,
        kind,
        dtype,  # type: ignore[arg-type]  # checked above
        run,
        text,
        calibrator,
        quantize,
        max_shard_size,
        license_name,
        base_model,
        with_code,
    )
    exported = export_model(request, out, settings, typer.echo)
    pruned, fitted = exported.pruned, exported.calibrator
    removed = f"{UNIT_NAMES[pruned.unit]} {', '.join(map(str, sorted(pruned.layers)))}"
    if pruned.unit == "expert":
        removed = f"{pruned.level} of {pruned.layer_count} {UNIT_NAMES[pruned.unit]}"
    typer.echo(
        f"{out}: {model} without {removed} ({kind}, {quantize or pruned.dtype}, "
        f"{exported.weight_bytes / 1e6:.1f} MB of weights)\nRemoval order: {pruned.origin}."
    )
    if fitted is not None:
        typer.echo(
            f"calibrator.json: {fitted.name}, fitted to {fitted.fit_rows} predictions on "
            f"{fitted.run.task} of run {fitted.run.run_id}."
        )
        if fitted.warning is not None:
            typer.echo(f"warning: {fitted.warning}", err=True)
    if exported.warning is not None:
        typer.echo(f"warning: {exported.warning}", err=True)
