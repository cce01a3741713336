"""`prunelake serve`: the API and the page."""

import socket
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.errors import InvalidSpec


def serve(
    lake: LakeOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that others reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve the lake's snapshot: rows, charts, SQL, and a page to read them."""
    import uvicorn
    from pydantic import ValidationError

    from api.app import create_app
    from api.http.protocol import JsonErrorProtocol
    from api.http.security import is_loopback
    from api.settings import ApiSettings
    from prunelake.analysis.analyse import analyse
    from prunelake.lake import publish

    own = load_settings(lake)
    folder = own.lake
    try:
        settings = ApiSettings()
    except ValidationError as error:
        told = "; ".join(
            f"PRUNELAKE_API_{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors()
        )
        raise InvalidSpec(told) from None
    if settings.token is None and not is_loopback(host):
        raise InvalidSpec(
            f"--host {host} lets others in: set PRUNELAKE_API_TOKEN to a secret that they send, "
            "or listen on 127.0.0.1"
        )
    listener = _open_socket(host, port)
    if not publish.is_current(folder):
        typer.echo("publishing the lake's runs first ...")
        publish.publish(folder, analyse)
    taken = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"PruneLake serves {folder} at http://{shown}:{taken}/ (Ctrl+C stops it)")
    config = uvicorn.Config(
        create_app(folder, settings, own.cache),
        http=JsonErrorProtocol,
        log_level="warning",
        server_header=False,
        # Who asks is who connects: a header may claim anything.
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _open_socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InvalidSpec(
            f"{host} port {port} cannot be listened on ({error.strerror}); give --port another, "
            "or --host an address of this machine"
        ) from error
