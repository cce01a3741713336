"""Run code as a notebook does, and the outputs that a notebook stores."""

import ast
import base64
import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

Output = dict[str, Any]


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """The value of the last line if it is an expression, else None; `names` are the variables."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # type: ignore[attr-defined]  # an Expr, as tested above


def code_cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The cells with code, in their order."""
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def execute(notebook: dict[str, Any]) -> None:
    """Run all code cells of a notebook, and store their outputs in it."""
    names: dict[str, Any] = {}
    for count, cell in enumerate(code_cells(notebook), 1):
        printed = io.StringIO()
        with redirect_stdout(printed):
            value = run_cell("".join(cell["source"]), names)
        cell["execution_count"] = count
        cell["outputs"] = [*_printed(printed.getvalue()), *_shown(value, count)]


def _printed(text: str) -> Iterator[Output]:
    if text:
        yield {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def _shown(value: Any, count: int) -> Iterator[Output]:
    """The value of a cell as text, and as a picture or HTML if it has one."""
    if value is None:
        return
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    metadata: dict[str, Any] = {}
    if hasattr(value, "_repr_png_"):
        picture, metadata["image/png"] = value._repr_png_()
        data["image/png"] = base64.b64encode(picture).decode()
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    yield {
        "output_type": "execute_result",
        "execution_count": count,
        "data": data,
        "metadata": metadata,
    }
