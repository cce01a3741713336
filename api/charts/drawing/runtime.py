"""The JavaScript that draws Vega-Lite in a browser, and the HTML page of one chart."""

import uuid
from contextlib import suppress
from functools import cache
from html import escape
from importlib.metadata import version
from typing import Any

import vl_convert

from prunelake.schema.row_formats import to_json
from prunelake.settings import Settings

VERSION = version("vl-convert-python")

SNIPPET = "window.vegaEmbed = vegaEmbed;"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
</head>
<body>
<div id="chart"></div>
<script>{runtime}</script>
<script>vegaEmbed("#chart", {spec}, {{renderer: "svg", ast: true}});</script>
</body>
</html>
"""


@cache
def runtime() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `vegaEmbed`.

    Bundling takes seconds, so PruneLake's cache keeps the result.
    """
    path = Settings().cache.expanduser() / f"vega-{VERSION}.js"
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    script: str = vl_convert.javascript_bundle(SNIPPET)
    # Without a cache, the next process bundles again.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_text(script, encoding="utf-8")
        temporary.replace(path)
    return script


def html_page(spec: dict[str, Any]) -> str:
    """A Vega-Lite chart as an HTML page that needs no network."""
    title = escape(" ".join(spec["title"]["text"]))
    return PAGE.format(title=title, runtime=runtime(), spec=in_script(to_json(spec)))


def in_script(json: bytes) -> str:
    """JSON inside a script: no text of it may end the script."""
    return json.decode().replace("<", "\\u003c")
