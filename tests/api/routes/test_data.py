"""Rows over HTTP equal the rows of the lake's views, in every format, page by page."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from prunelake.analysis.analyse import analyse
from prunelake.api.queries.snapshots.snapshot import LatestSnapshot
from prunelake.api.queries.views.view_catalog import all_views
from prunelake.errors import LimitExceeded
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.row_formats import MEDIA_TYPES, RowFormat
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import prediction, rows_of, run_row, write


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two explained runs of different models and tasks, published."""
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, "first", model="hub:org/alpha", task="boolq")
    explained_run(folder, "second", model="hub:org/beta", task="rte", strategy="random:0")
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def rows(client: TestClient, path: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


def test_every_view_answers_with_the_rows_of_the_lake(lake: Path, client: TestClient) -> None:
    for name in all_views():
        ((expected,),) = (row.values() for row in rows_of(lake, f"select count(*) from {name}"))
        assert len(rows(client, f"/views/{name}", limit=10_000)) == expected, name


def test_a_filter_selects_the_rows_of_the_equal_sql(lake: Path, client: TestClient) -> None:
    found = rows(client, "/views/metrics", task="boolq", level_lte=1, metric="accuracy")
    expected = views.query(
        lake,
        "from metrics where task = 'boolq' and level <= 1 and metric = 'accuracy' order by level",
    )
    assert [row["value"] for row in found] == expected["value"].to_list()
    assert found[0].keys() == set(expected.columns)


@pytest.mark.parametrize(
    ("parameters", "condition"),
    [
        ({"level": ["0", "2"]}, "level in (0, 2)"),
        ({"level_ne": 1}, "level != 1"),
        ({"level_lt": 1}, "level < 1"),
        ({"level_gt": 1}, "level > 1"),
        ({"level_gte": 1, "level_lt": 2}, "level = 1"),
        ({"method_null": "true"}, "method is null"),
        ({"method_null": "false"}, "method is not null"),
        ({"method_ne": "random"}, "method is distinct from 'random'"),
        ({"higher_is_better": "true"}, "higher_is_better"),
        ({"value_gte": 0.5}, "value >= 0.5"),
        ({"model": "hub:org/alpha' or true --"}, "false"),
    ],
)  # fmt: skip
def test_each_kind_of_filter(
    lake: Path, client: TestClient, parameters: dict[str, Any], condition: str
) -> None:
    expected = views.query(lake, f"select count(*) as n from metrics where {condition}")["n"][0]
    assert len(rows(client, "/views/metrics", limit=10_000, **parameters)) == expected


def test_a_view_without_models_is_filtered_by_the_model_of_its_runs(
    lake: Path, client: TestClient
) -> None:
    assert "model" not in all_views()["accuracy"].columns
    found = rows(client, "/views/accuracy", model="hub:org/beta", strategy="random:0")
    expected = views.query(lake, "select run_id from runs where model = 'hub:org/beta'")
    assert {row["run_id"] for row in found} == set(expected["run_id"])
    assert found


def test_a_time_is_compared_as_a_time(client: TestClient) -> None:
    assert rows(client, "/views/runs", created_at_gt="2026-01-02T03:04:04Z")
    assert not rows(client, "/views/runs", created_at_gt="2026-01-02T03:04:05Z")


def test_order_puts_the_largest_first_and_nulls_last(client: TestClient) -> None:
    found = rows(client, "/views/metrics", order="-value,level", limit=10_000)
    values = [row["value"] for row in found]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert values == known + [None] * (len(values) - len(known))


@pytest.mark.parametrize("name", sorted(all_views()))
def test_pages_by_cursor_are_all_rows_once(client: TestClient, name: str) -> None:
    whole = rows(client, f"/views/{name}", limit=10_000)
    size = max(1, len(whole) // 3)
    found: list[Any] = []
    cursor = None
    while True:
        parameters = {"limit": size} | ({"cursor": cursor} if cursor else {})
        answer = client.get(f"/views/{name}", params=parameters)
        found += answer.json()["rows"]
        cursor = answer.json()["next"]
        if cursor is None:
            break
        assert len(answer.json()["rows"]) == size
        assert client.get(_next(answer.headers["link"])).json()["rows"][:1] != found[-1:]
    assert found == whole
    assert len({json.dumps(row) for row in found}) == len(found)


def _next(link: str) -> str:
    return link.partition("<")[2].partition(">")[0]


def test_a_cursor_belongs_to_one_request(client: TestClient) -> None:
    cursor = client.get("/views/metrics", params={"limit": 1}).json()["next"]
    other = client.get("/views/metrics", params={"limit": 1, "level": 0, "cursor": cursor})
    assert other.status_code == 422
    assert "other filters" in other.json()["error"]["message"]
    for broken in ("x", "AAAA", cursor[:-4], ""):
        assert client.get("/views/metrics", params={"cursor": broken}).status_code == 422


def read(format: RowFormat, body: bytes) -> pl.DataFrame:
    match format:
        case RowFormat.json:
            return pl.DataFrame(json.loads(body)["rows"], infer_schema_length=None)
        case RowFormat.ndjson:
            return pl.read_ndjson(body, infer_schema_length=None)
        case RowFormat.csv:
            return pl.read_csv(body, infer_schema_length=None)
        case RowFormat.parquet:
            return pl.read_parquet(io.BytesIO(body))
        case RowFormat.arrow:
            return pl.read_ipc_stream(io.BytesIO(body))


@pytest.mark.parametrize("by_header", [False, True])
@pytest.mark.parametrize("format", RowFormat)
def test_every_format_holds_the_same_rows(
    lake: Path, client: TestClient, format: RowFormat, by_header: bool
) -> None:
    asked = "/views/metrics?limit=10000&order=run_id,level,metric"
    if by_header:
        answer = client.get(asked, headers={"Accept": MEDIA_TYPES[format]})
    else:
        answer = client.get(f"{asked}&format={format}")
    assert answer.headers["content-type"] == MEDIA_TYPES[format]
    key = ["run_id", "level", "metric", "method", "operator", "variant"]
    columns = [*key, "value", "n"]
    expected = views.query(lake, f"select {', '.join(columns)} from metrics")
    found = read(format, answer.content).select(columns).cast(pl.Schema(expected.schema))
    assert found.sort(key).equals(expected.sort(key))


def test_a_file_holds_all_rows_or_is_refused(lake: Path, client: TestClient) -> None:
    expected = views.query(lake, "from metrics where level < 9")
    assert expected.height > 100  # more than a page
    for format in ("csv", "ndjson", "parquet", "arrow"):
        answer = client.get(f"/views/metrics.{format}", params={"level_lt": 9})
        assert answer.headers["content-type"] == MEDIA_TYPES[RowFormat(format)]
        assert read(RowFormat(format), answer.content).height == expected.height
    with api_client(lake, max_rows=expected.height - 1) as limited:
        answer = limited.get("/views/metrics.csv?level_lt=9")
        assert answer.json()["error"]["code"] == "limit_exceeded"
        part = limited.get("/views/metrics.csv?level_lt=9&limit=3")
        assert read(RowFormat.csv, part.content).height == 3
        assert "cursor=" in part.headers["link"]


def test_a_repeated_order_sorts_by_both(client: TestClient) -> None:
    repeated = client.get("/views/metrics?order=-level&order=metric").json()["rows"]
    assert repeated == client.get("/views/metrics?order=-level,metric").json()["rows"]
    assert [row["level"] for row in repeated] != sorted(row["level"] for row in repeated)


def test_the_accept_header_of_a_browser_gives_json(client: TestClient) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    answer = client.get("/verdicts", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("application/json;q=0.5, text/csv;q=0.9, application/x-ndjson;q=0.1", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("Text/Csv ; Q=0.9, application/JSON;q=0.1", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("*/*, text/csv;q=0", "application/json"),
        ("application/json;q=0, text/*", "text/csv"),
        ("application/json;q=0, */*;q=0.1", "text/csv"),
        ("text/csv;q=0", "application/json"),
        ("text/*;q=0, image/png", "application/json"),
        ("application/*;q=0.2, text/csv;q=0.1", "application/json"),
        ("application/parquet", "application/vnd.apache.parquet"),
        ("text/csv;q=x", "application/json"),
        ("image/png", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_accept_header_chooses_the_format(client: TestClient, accept: str, format: str) -> None:
    answer = client.get("/verdicts?limit=1", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == format


@pytest.mark.parametrize("accept", ["application/json;q=0", "*/*;q=0", "application/*; q=0.0"])
def test_a_header_that_excludes_json_and_names_nothing_else_is_refused(
    client: TestClient, accept: str
) -> None:
    answer = client.get("/verdicts", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["error"]["code"]) == (406, "not_acceptable")
    assert "text/csv" in answer.json()["error"]["message"]


def test_nan_and_infinity_are_null(tmp_path: Path) -> None:
    run = run_row(example_count=1, levels=[0])
    write(tmp_path, run, predictions=[prediction(str(run["run_id"]), 0, "a", [float("nan"), 0.0])])
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        (row,) = rows(client, "/views/predictions")
    assert row["option_log_likelihoods"] == [None, 0.0]
    assert row["confidence"] is None


def test_csv_for_a_spreadsheet_holds_no_formulas(tmp_path: Path) -> None:
    name = '=HYPERLINK("http://evil.example")'
    run = run_row("run", model=name, task="-1+1", strategy="@sum")
    write(tmp_path, run, predictions=[prediction(str(run["run_id"]), 0, "+a", [0.0, -1.5])])
    publish(tmp_path, analyse)
    with api_client(tmp_path) as client:
        plain = read(RowFormat.csv, client.get("/views/runs.csv").content)
        safe = read(RowFormat.csv, client.get("/views/runs.csv?spreadsheet=true").content)
        found = client.get("/views/predictions?format=csv&spreadsheet=TRUE").content
        other = client.get("/views/runs.parquet?spreadsheet=true")
    columns = ["model", "task", "strategy"]
    assert plain.select(columns).rows() == [(name, "-1+1", "@sum")]
    assert safe.select(columns).rows() == [(f"'{name}", "'-1+1", "'@sum")]
    assert safe.drop(columns).equals(plain.drop(columns))
    row = read(RowFormat.csv, found).row(0, named=True)
    # Numbers are no formulas; lists begin with a bracket.
    assert (row["example_id"], row["option_log_likelihoods"]) == ("'+a", "[0.0,-1.5]")
    assert "spreadsheet=true is for csv" in other.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("levle=1", "has no parameter 'levle'"),
        ("level=x", "level='x' is not a whole number of 32 bits"),
        ("level=99999999999", "not a whole number"),
        ("level=1.5", "not a whole number"),
        ("value_gt=nan", "is not a number"),
        ("is_tested_null=perhaps", "is not true or false"),
        ("level_lt=1&level_lt=2", "given twice"),
        ("limit=0", "not between 1 and"),
        ("limit=1000000", "not between 1 and"),
        ("limit=5&limit=6", "limit is given twice"),
        ("order=nonsense", "has no column 'nonsense'"),
        ("format=xml", "no format 'xml'"),
        ("order=level&order=nonsense", "has no column 'nonsense'"),
        ("metric_lt=ece", "has no parameter 'metric_lt'"),
    ],
)
def test_invalid_parameters_are_refused_with_the_reason(
    client: TestClient, query: str, words: str
) -> None:
    answer = client.get(f"/views/deltas?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"
    assert words in answer.json()["error"]["message"]


def test_a_list_can_only_be_filtered_by_null(client: TestClient) -> None:
    answer = client.get("/views/attributions?scores=1")
    assert "the only filter is scores_null" in answer.json()["error"]["message"]
    assert rows(client, "/views/attributions", scores_null="false")


def test_the_error_of_an_unknown_view_names_the_choices(client: TestClient) -> None:
    answer = client.get("/views/metric")
    assert answer.status_code == 404
    assert "metrics" in answer.json()["error"]["choices"]


def test_an_answer_too_large_is_refused(lake: Path) -> None:
    with api_client(lake, max_bytes=2000) as client:
        answer = client.get("/views/metrics", params={"limit": 500})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "limit_exceeded"
        assert client.get("/views/metrics", params={"limit": 2}).status_code == 200


def test_an_answer_that_takes_too_long_is_stopped(lake: Path) -> None:
    endless = BoundQuery("select count(*) as n from range(1_000_000_000_000)")
    with pytest.raises(LimitExceeded, match=r"longer than 0\.2 s"):
        LatestSnapshot(lake, max_seconds=0.2).current().rows(endless)


def test_a_pause_between_two_queries_does_not_save_the_second(lake: Path) -> None:
    endless = BoundQuery("select count(*) as n from range(1_000_000_000_000)")

    def pause_and_ask() -> None:
        with LatestSnapshot(lake, max_seconds=0.1).current().cursor() as connection:
            time.sleep(0.3)
            endless.rows(connection)

    with pytest.raises(LimitExceeded):
        pause_and_ask()


def test_the_routes_correlations_and_verdicts_return_the_views(client: TestClient) -> None:
    for name in ("correlations", "verdicts"):
        assert rows(client, f"/{name}", task="rte") == rows(client, f"/views/{name}", task="rte")


def test_views_are_listed_with_their_comments(client: TestClient) -> None:
    described = {view["name"]: view for view in client.get("/views").json()}
    assert described.keys() == all_views().keys()
    assert "level_lte" in described["metrics"]["filters"]
    assert "model" in described["accuracy"]["filters"]
    assert described["metrics"]["columns"]["value"] == "double"


def test_models_list_their_runs(client: TestClient) -> None:
    alpha, beta = client.get("/models").json()
    assert (alpha["model"], alpha["name"]) == ("hub:org/alpha", "alpha")
    (run,) = beta["runs"]
    assert run["task"] == "rte"
    assert run["levels"] == [0, 1, 2]
    assert run["explained_by"] == "kernel_shap"
