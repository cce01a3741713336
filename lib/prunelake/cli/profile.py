"""`prunelake profile`: measure the cost of each level on this machine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from prunelake.cli.console import (
    REFERENCE_HELP,
    CalibrationTextOption,
    LakeOption,
    OrderDtypeOption,
    OrderRunOption,
    OrderStrategyOption,
    load_settings,
    parse_numbers,
    parse_strategy,
)
from prunelake.errors import InvalidSpec, validation_message
from prunelake.extras import require_extra
from prunelake.spec import DEFAULT_MODEL

if TYPE_CHECKING:
    import polars as pl

COST_COLUMNS = {
    "parameter_count": ("parameters, M", 1e6),
    "weight_bytes": ("weights, MB", 1e6),
    "kv_bytes_per_token": ("KV, kB a token", 1e3),
    "peak_bytes": ("peak, MB", 1e6),
    "prefill_tokens_per_second": ("prefill, tokens/s", 1),
    "decode_tokens_per_second": ("decode, tokens/s", 1),
}
"""The title of each printed column of the view `costs`, and the divisor for its unit."""

SPEEDUPS = ("prefill_speedup", "decode_speedup")
"""Further columns: the median over the repeats, and in brackets the least and the greatest."""


def profile(
    model: Annotated[str, typer.Option(help=REFERENCE_HELP)] = DEFAULT_MODEL,
    strategy: OrderStrategyOption = "cosine",
    levels: Annotated[
        str | None,
        typer.Option(help="0,4,8; default: the levels of the lake's runs, or up to half."),
    ] = None,
    dtype: OrderDtypeOption = None,
    run: OrderRunOption = None,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens in the prompt, read at once.")] = 512,
    new_tokens: Annotated[int, typer.Option(help="Tokens generated after it, one by one.")] = 32,
    batch: Annotated[int, typer.Option(help="Sequences in a batch.")] = 1,
    repeats: Annotated[int, typer.Option(help="How often each level is timed.")] = 5,
    calibration: CalibrationTextOption = "bundled",
    lake: LakeOption = None,
) -> None:
    """Measure size, speed and memory of each level.

    The layers are really removed. Measure on an idle machine: numbers from a busy machine are
    worthless.
    """
    settings = load_settings(lake)
    fields: dict[str, Any] = {
        "model": model,
        "strategy": parse_strategy(strategy),
        "levels": parse_numbers(levels),
        "dtype": dtype,
        "run": run,
        "load": {
            "batch": batch,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "repeats": repeats,
        },
        "calibration": {"source": calibration},
    }
    require_extra("models")
    from prunelake.models.gpu.device_names import check_device_name
    from prunelake.models.levels import check_levels

    check_device_name(settings.device)  # before torch loads
    check_levels(model, fields["levels"], fields["strategy"].unit)
    import polars as pl

    from prunelake.cli.text.rows import print_frame
    from prunelake.lake.sql import views
    from prunelake.lake.sql.run_lookup import profile_costs
    from prunelake.profiling.profile import ProfileRequest, profile_model
    from prunelake.schema.profile_tables import MAX_LOAD_AVERAGE

    try:
        request = ProfileRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidSpec(
            validation_message(
                error.errors(),
                name_of=lambda problem: f"--{_option_name(problem['loc'])} {problem['input']}",
            )
        ) from error
    profile_id = profile_model(request, settings, typer.echo)
    columns = [(pl.col(name) / unit).alias(title) for name, (title, unit) in COST_COLUMNS.items()]
    ratios = [
        _speedup(name).alias(f"{name.removesuffix('_speedup')}, x level 0") for name in SPEEDUPS
    ]
    costs = profile_costs(settings.lake, profile_id)
    print_frame(costs.select("level", *columns, *ratios), None, None)
    typer.echo(
        "x level 0: the median over the repeats (least to greatest); a range that contains 1 shows "
        "no speed-up"
    )
    load = views.query(
        settings.lake,
        "select load_average from profiles where profile_id = $profile_id and device = 'cpu'",
        profile_id=profile_id,
    )
    if load.height and load.item() > MAX_LOAD_AVERAGE:
        typer.echo(
            f"The machine was busy (load {load.item():.1f}), so these speeds are unreliable; sizes "
            "are exact. Profile again when it is idle."
        )
    typer.echo(f"profile {profile_id} is in the lake {settings.lake}")


def _speedup(name: str) -> "pl.Expr":
    """A ratio with its range as text: 1.09 (1.05 to 1.12)."""
    import polars as pl

    median, low, high = (pl.col(f"{name}{end}").round(2) for end in ("", "_low", "_high"))
    return pl.format("{} ({} to {})", median, low, high)


def _option_name(location: tuple[int | str, ...]) -> str:
    """The command's option for a field of `ProfileRequest`."""
    names = [part for part in location if isinstance(part, str)]
    return (names[1] if names[0] == "load" else names[0]).replace("_", "-")
