"""`prunelake serve`: the API and the page."""

from typing import Annotated

import typer

from prunelake.console import LakeOption, settings_for
from prunelake.errors import InvalidSpec

HostOption = Annotated[str, typer.Option(help="Address to listen on; others need a token.")]


def serve(lake: LakeOption = None, host: HostOption = "127.0.0.1", port: int = 8000) -> None:
    """Serve the lake's snapshot: rows, charts, SQL, and a page to read them."""
    import uvicorn

    from api.app import create_app
    from api.security import is_loopback
    from api.settings import ApiSettings
    from prunelake import publish

    folder = settings_for(lake).lake
    settings = ApiSettings()
    if settings.token is None and not is_loopback(host):
        raise InvalidSpec(
            f"--host {host} lets others in: set PRUNELAKE_API_TOKEN to a secret that they send, "
            "or listen on 127.0.0.1"
        )
    if not publish.is_current(folder):
        typer.echo("publishing the lake's runs first ...")
        publish.publish(folder)
    typer.echo(f"PruneLake serves {folder} at http://{host}:{port}/ (Ctrl+C stops it)")
    uvicorn.run(
        create_app(folder, settings), host=host, port=port, log_level="warning", server_header=False
    )
