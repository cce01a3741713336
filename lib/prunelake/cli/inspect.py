"""`prunelake inspect`: the blocks and parts of a model, before a sweep."""

from typing import Annotated

import typer

from prunelake.cli.console import REFERENCE_HELP, load_settings
from prunelake.extras import require_extra


def inspect(
    model: Annotated[str, typer.Argument(help=REFERENCE_HELP)],
) -> None:
    """Print a model's blocks and the units that a sweep can remove.

    Also print the work that the levels of a sweep share.

    No weights are read; of a hub repository, only config.json is fetched.
    """
    require_extra("models")
    from prunelake.models.references import check_reference

    check_reference(model)  # before torch loads
    from prunelake.inference.description import describe_decoder
    from prunelake.models.sources import model_skeleton

    skeleton = model_skeleton(model, load_settings(None).cache.expanduser())
    typer.echo(describe_decoder(skeleton))
