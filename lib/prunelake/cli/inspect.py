"""`prunelake inspect`: what a model is made of, before a sweep."""

from typing import Annotated

import typer

from prunelake.cli.console import load_settings
from prunelake.extras import require_extra


def inspect(
    model: Annotated[str, typer.Argument(help="Model reference, as in a sweep.")],
) -> None:
    """Print a model's blocks, the units that can be removed, and what a sweep shares.

    No weights are read; of a hub repository, only config.json is fetched.
    """
    require_extra("models")
    from prunelake.models.references import check_reference

    check_reference(model)  # before torch loads
    from prunelake.inference.description import describe_decoder
    from prunelake.models.sources import model_skeleton

    skeleton = model_skeleton(model, load_settings(None).cache.expanduser())
    typer.echo(describe_decoder(skeleton))
