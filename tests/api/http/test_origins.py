"""Pages of listed sites may read the answers (CORS); pages of other sites may not even ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from prunelake.api.settings import ApiSettings
from tests.support.api.api_client import api_client

LISTED = "https://dash.example"


@pytest.fixture(scope="module")
def client(sql_lake: Path) -> Iterator[TestClient]:
    origins = (LISTED, "http://localhost:3000")
    with api_client(sql_lake, token="secret", origins=origins) as client:
        yield client


def test_a_listed_site_may_read_answers_and_errors(client: TestClient) -> None:
    known = {"Origin": LISTED, "Authorization": "Bearer secret"}
    answer = client.get("/views/metrics?limit=1", headers=known)
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert {"ETag", "Link"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    refused = client.get("/views/metrics", headers={"Origin": LISTED})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == LISTED


def test_a_browser_may_ask_first_without_the_token(client: TestClient) -> None:
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = client.options("/sql", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    other = client.options("/sql", headers=asked | {"Origin": "https://other.example"})
    assert (other.status_code, other.json()["error"]["code"]) == (400, "bad_request")
    assert "PRUNELAKE_API_ORIGINS" in other.json()["error"]["message"]
    assert "access-control-allow-origin" not in other.headers


def test_other_sites_may_not_read(client: TestClient, sql_lake: Path) -> None:
    other = {"Origin": "https://other.example", "Authorization": "Bearer secret"}
    assert "access-control-allow-origin" not in client.get("/models", headers=other).headers
    with api_client(sql_lake) as closed:
        assert "access-control-allow-origin" not in closed.get("/models", headers=other).headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_cannot_send_sql_in_an_address(
    client: TestClient, site: str
) -> None:
    known = {"Authorization": "Bearer secret", "Sec-Fetch-Site": site}
    answer = client.get("/sql?query=select+1", headers=known)
    assert answer.status_code == 401
    assert "another site" in answer.json()["error"]["message"]
    # SQL is off here, but the query was let through.
    assert client.get("/sql?query=select+1", headers=known | {"Origin": LISTED}).status_code == 404


@pytest.mark.parametrize("origin", ["*", "null", "dash.example", "https://a.example/", "HTTPS://A"])
def test_a_setting_that_is_no_origin_is_refused(
    monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    monkeypatch.setenv("PRUNELAKE_API_ORIGINS", f"{LISTED}, {origin}")
    with pytest.raises(ValidationError, match="is no origin"):
        ApiSettings()


def test_the_setting_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNELAKE_API_ORIGINS", f"{LISTED}, http://[::1]:80")
    assert ApiSettings().origins == (LISTED, "http://[::1]:80")
