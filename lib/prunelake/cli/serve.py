"""`prunelake serve`: run the server of the API and the page."""

import gc
import socket
from typing import Annotated

import typer

from prunelake.cli.console import LakeOption, load_settings
from prunelake.errors import InvalidSpec, dotted_path, validation_message


def serve(
    lake: LakeOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; a public address needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 chooses a free one.")
    ] = 8000,
) -> None:
    """Serve the lake's rows, charts, SQL and a page."""
    import uvicorn
    from pydantic import ValidationError

    from prunelake.analysis.analyse import analyse
    from prunelake.api.app import create_app
    from prunelake.api.charts.drawing.pictures import POOL
    from prunelake.api.http.protocol import JsonErrorProtocol
    from prunelake.api.http.security import is_loopback
    from prunelake.api.settings import ApiSettings
    from prunelake.lake import publish

    lake_settings = load_settings(lake)
    folder = lake_settings.lake
    try:
        settings = ApiSettings()
    except ValidationError as error:
        raise InvalidSpec(
            validation_message(
                error.errors(),
                name_of=lambda problem: f"PRUNELAKE_API_{dotted_path(problem['loc'])}".upper(),
            )
        ) from None
    if settings.token is None and not is_loopback(host):
        raise InvalidSpec(
            f"--host {host} is a public address: set PRUNELAKE_API_TOKEN to the token that clients "
            "must send, or listen on 127.0.0.1"
        )
    with _open_socket(host, port) as listener:
        if not folder.is_dir():  # a service may start before the first sweep
            typer.echo(f"no lake at {folder} yet: its first published run will appear")
        elif not publish.is_current(folder):
            typer.echo("publishing the lake's runs first ...")
            publish.publish(folder, analyse)
        bound_port = listener.getsockname()[1]
        url_host = f"[{host}]" if ":" in host else host
        typer.echo(
            f"PruneLake serves {folder} at http://{url_host}:{bound_port}/ (Ctrl+C stops it)"
        )
        POOL.warm_up()
        config = uvicorn.Config(
            create_app(folder, settings, lake_settings.cache, is_preparing=True),
            http=JsonErrorProtocol,
            log_level="warning",
            # It would be written at a lower level, but made for each request.
            access_log=False,
            server_header=False,
            # Only the connection gives the client's address: a header can name any address.
            proxy_headers=False,
        )
        # Looking for garbage among these objects would stop all readers for 50 ms, again and again.
        # It is not done now either: Ctrl-C would be lost in the code that frees an object.
        gc.freeze()
        uvicorn.Server(config).run(sockets=[listener])


def _open_socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InvalidSpec(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another --port, or an "
            "address of this machine as --host"
        ) from error
