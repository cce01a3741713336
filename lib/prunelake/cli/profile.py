"""`prunelake profile`: what each level costs on this machine."""

from typing import Annotated, Any

import polars as pl
import typer
from pydantic import ValidationError

from prunelake.cli.console import (
    CalibrationTextOption,
    LakeOption,
    OrderDtypeOption,
    OrderRunOption,
    OrderStrategyOption,
    OutputFormat,
    load_settings,
    parse_numbers,
    parse_strategy,
    print_frame,
)
from prunelake.errors import InvalidSpec
from prunelake.spec import DEFAULT_MODEL

COST_COLUMNS = {
    "parameter_count": ("parameters, M", 1e6),
    "weight_bytes": ("weights, MB", 1e6),
    "kv_bytes_per_token": ("KV, kB a token", 1e3),
    "peak_bytes": ("peak, MB", 1e6),
    "prefill_tokens_per_second": ("prefill, tokens/s", 1),
    "prefill_speedup": ("x level 0", 1),
    "decode_tokens_per_second": ("decode, tokens/s", 1),
    "decode_speedup": ("x level 0 ", 1),
}
"""The title of each printed column of the view `costs`, and the divisor for its unit."""


def profile(
    model: Annotated[str, typer.Option(help="Model reference, as of a sweep.")] = DEFAULT_MODEL,
    strategy: OrderStrategyOption = "cosine",
    levels: Annotated[
        str | None, typer.Option(help="0,4,8; default: those of the lake's runs, else up to half.")
    ] = None,
    dtype: OrderDtypeOption = None,
    run: OrderRunOption = None,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt, in one pass.")] = 512,
    new_tokens: Annotated[int, typer.Option(help="Tokens decoded behind it, one by one.")] = 32,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    repeats: Annotated[int, typer.Option(help="Each level is timed as often.")] = 5,
    calibration: CalibrationTextOption = "bundled",
    lake: LakeOption = None,
) -> None:
    """Measure weights, KV cache, speed and memory of each level, really without its layers.

    On a machine that does nothing else: numbers of a busy one are worthless.
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
    from prunelake.lake.run_lookup import profile_costs
    from prunelake.profiling.profile import ProfileRequest
    from prunelake.profiling.profile import profile_model as measure

    try:
        wanted = ProfileRequest.model_validate(fields)
    except ValidationError as error:
        told = "; ".join(
            f"--{_option_name(problem['loc'])} {problem['input']}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InvalidSpec(told) from error
    profile_id = measure(wanted, settings, typer.echo)
    columns = [(pl.col(name) / unit).alias(title) for name, (title, unit) in COST_COLUMNS.items()]
    costs = profile_costs(settings.lake, profile_id).select("level", *columns)
    print_frame(costs, OutputFormat.table, None)
    typer.echo(f"profile {profile_id} is in the lake {settings.lake}")


def _option_name(place: tuple[int | str, ...]) -> str:
    """The option that a field of `ProfileRequest` is given by."""
    names = [part for part in place if isinstance(part, str)]
    return (names[1] if names[0] == "load" else names[0]).replace("_", "-")
