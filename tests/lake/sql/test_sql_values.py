"""Values are bound to SQL and never formatted into it."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

QUERY = re.compile(r"\s*(select|from|with|insert|pivot|values|explain select)\b")

ALLOWED = {
    "lib/prunelake/lake/snapshot_file.py": {  # constants of schema, and the query for files
        "table.name",
        "view",
        "source or view",
        "rows_sql(table, sources)",
        "order",  # columns of a view
        "hashes.format('judged')",
        "hashes.format('stored.verdicts')",
        "of_runs",  # ids as literals, so that the views read these runs only
    },
    "lib/prunelake/lake/sql/relations.py": {
        "columns",  # columns of a table of schema
        "nulls",
        "files",  # literals: a view takes no parameter
    },
    "lib/prunelake/lake/sql/queries_together.py": {  # queries with parameters, and their names
        "len(queries)",
        "values",
        "one",
        "keys",
    },
    "lib/prunelake/lake/sql/views.py": {
        "statement.query.rstrip().rstrip(';')",  # the statement of the user, to be explained
    },
    "api/queries/views/view_rows.py": {  # names that the catalogue of views has
        "view.name",
        "where",
        "', '.join(terms)",
    },
    "api/queries/views/row_filters.py": {"name", "self.column"},
    "api/queries/views/stored_rows.py": {"view.name", "key"},
    "lib/prunelake/analysis/rank_pairs.py": {"', '.join(table.schema)"},
    "api/charts/correlation_matrix.py": {"interval(values[0], values[-1])"},  # a sentence
    "api/findings/verdict_map.py": {"words"},  # a sentence
}
"""The expressions that may be formatted into a text that begins like a query, by module."""


def formatted_queries(code: str) -> Iterator[tuple[int, str]]:
    """The line and the expression of each value that is formatted into a query."""
    tree = ast.parse(code)
    texts = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def begins_a_query(node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str(text)):
                return QUERY.match(text) is not None
            case ast.Name(id=name):
                return QUERY.match(texts.get(name, "")) is not None
            case ast.JoinedStr(values=[first, *_]):
                return begins_a_query(first)
            case ast.BinOp(left=left, op=ast.Add() | ast.Mod()):
                return begins_a_query(left)
        return False

    for node in ast.walk(tree):
        formatted: list[ast.expr] = []
        match node:
            case ast.JoinedStr(values=values) if begins_a_query(node):
                formatted = [v.value for v in values if isinstance(v, ast.FormattedValue)]
            case ast.BinOp(right=right) if begins_a_query(node):
                formatted = [right]
            case ast.Call(func=ast.Attribute(value=text, attr="format" | "replace")) if (
                begins_a_query(text)
            ):
                formatted = [*node.args, *(keyword.value for keyword in node.keywords)]
        yield from ((expression.lineno, ast.unparse(expression)) for expression in formatted)


def test_no_query_is_built_from_values() -> None:
    built = {
        (str(path.relative_to(ROOT)), line, expression)
        for folder in ("lib", "flows", "api")
        for path in (ROOT / folder).rglob("*.py")
        for line, expression in formatted_queries(path.read_text())
    }
    assert [
        f"{path}:{line}: {expression} is formatted into a query; bind it, as $name"
        for path, line, expression in sorted(built)
        if expression not in ALLOWED.get(path, ())
    ] == []


def test_every_allowed_exception_is_used() -> None:
    used = {
        path: {expression for _, expression in formatted_queries((ROOT / path).read_text())}
        for path in ALLOWED
    }
    assert {path: expressions - used[path] for path, expressions in ALLOWED.items()} == {
        path: set() for path in ALLOWED
    }


@pytest.mark.parametrize(
    "code",
    [
        "f'select a from t where b = {value}'",
        "f'''\n    with c as (select 1) from c where b = {value}'''",
        "'from t where b = ' + value",
        "'from t where b = %s' % value",
        "'from t where b = {}'.format(value)",
        "Q = 'from t where b = {}'\nQ.format(value)",
        "'from t where ' + f'b = {1}' + value",
    ],
)
def test_a_value_in_a_query_is_found(code: str) -> None:
    assert "value" in {expression for _, expression in formatted_queries(code)}


def test_a_query_with_parameters_and_other_text_pass() -> None:
    assert not [*formatted_queries("ask('from t where b = $b', b=value)")]
    assert not [*formatted_queries("f'With {value} examples'")]
