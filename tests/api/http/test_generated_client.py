"""openapi-python-client makes a client from our OpenAPI that calls every kind of route."""

import importlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from prunelake.api.app import create_app
from tests.support.api.api_client import api_client
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def package(sql_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the generated package."""
    folder = tmp_path_factory.mktemp("client")
    document = folder / "openapi.json"
    document.write_text(json.dumps(create_app(sql_lake).openapi()))
    settings = ConfigFile.load_from_path(ROOT / "examples" / "client.yaml")
    settings.post_hooks = []  # a formatter would only cost time
    config = Config.from_sources(
        settings,
        MetaType.NONE,
        document_source=document,
        file_encoding="utf-8",
        overwrite=True,
        output_path=folder / "prunelake_client",
    )
    assert generate(config=config) == []  # no warnings
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "prunelake_client"
    shutil.rmtree(folder)


def test_a_generated_client_calls_every_kind_of_route(sql_lake: Path, package: str) -> None:
    with api_client(sql_lake, sql=True, sql_processes=1, sql_max_seconds=30) as connection:
        client = importlib.import_module(package).Client(base_url="http://127.0.0.1")
        client.set_httpx_client(connection)

        def call(operation: str, **parameters: Any) -> Any:
            module = importlib.import_module(f"{package}.api.{operation}")
            return module.sync(client=client, **parameters)

        page = call(
            "data.read_metrics", level_gte=1, task_ne="rte", order=["-level", "metric"], limit=2
        )
        assert page.view == "metrics"
        assert [row.level for row in page.rows] == [1, 1]
        metrics = [row.metric for row in page.rows]
        assert metrics == sorted(metrics)
        rest = call(
            "data.read_metrics",
            level_gte=1,
            task_ne="rte",
            order=["-level", "metric"],
            limit=2,
            cursor=page.next_,
        )
        assert rest.rows[0].metric > metrics[-1]

        (model,) = call("data.list_models")
        assert model.runs[0].run_id == page.rows[0].run_id

        found = call("findings.get_findings", task=model.runs[0].task)
        assert found.sentences

        rows = call("sql.sql", body=_sql_query(package, "select 1 as one"))
        assert rows.rows[0].to_dict() == {"one": 1}

        filters = importlib.import_module(f"{package}.models").DownloadParquetFilters
        chosen = filters.from_dict({"level": "0"})
        file = call("files.download_parquet", name="metrics", filters=chosen)
        assert pl.read_parquet(io.BytesIO(file.payload.read()))["level"].unique().to_list() == [0]

        problem = call("findings.get_findings", metric="nonsense")
        assert (problem.error.code, "ece" in problem.error.choices) == ("not_found", True)


def _sql_query(package: str, query: str) -> Any:
    return importlib.import_module(f"{package}.models").SqlQuery(query=query)
