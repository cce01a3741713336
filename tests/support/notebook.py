"""Run code as a notebook does: all statements, and the value of the last one."""

import ast
from typing import Any


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """The value of the last line if it is an expression, else None; `names` are the variables."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # type: ignore[attr-defined]  # an Expr, as tested above
