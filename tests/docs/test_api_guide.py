"""docs/api.md: its tables name what exists, and its requests and code run on a server."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.api.app import create_app
from prunelake.api.charts.catalog import CHARTS
from prunelake.api.http.code_id import code_id
from prunelake.api.http.problems import ERROR_STATUS
from prunelake.api.queries.views.row_filters import CONTROL_PARAMETERS
from prunelake.lake.publish import publish
from prunelake.lake.recorded import RECORDED_LAKE, unpack_lake
from prunelake.lake.sql.views import query
from prunelake.schema.row_formats import RowFormat
from tests.support.limits import HANG_S
from tests.support.page.page_reader import running_server
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
SNAPSHOT, CODE = "e9382d39cb533b9e", "1c0f2ab9"

SHELL = re.findall(r"^```sh\n(.*?)^```(?:\n\n```json\n(.*?)^```)?", GUIDE, re.DOTALL | re.M)
REQUESTS = [line for block, _ in SHELL for line in block.splitlines()]
REQUESTS += re.findall(r"^curl .*", README, re.M)
WHOLE_VIEW, PAGES, NOTEBOOK = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.M)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded lake, from which the answers of the guide come."""
    folder = unpack_lake(RECORDED_LAKE, tmp_path_factory.mktemp("recorded"))
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def server(lake: Path) -> Iterator[str]:
    """The address of a server of that lake."""
    with running_server(lake, with_sql=True) as address:
        yield address


@pytest.fixture(scope="module")
def snapshot(server: str) -> str:
    """The id of the served snapshot, which differs from that in the guide."""
    return str(httpx.get(f"{server}/health", timeout=HANG_S).json()["snapshot"])


def here(text: str, server: str, snapshot: str) -> str:
    """A text of the guide with the address, the snapshot and the code of this test."""
    return text.replace(ADDRESS, server).replace(SNAPSHOT, snapshot).replace(CODE, code_id())


def asked(line: str) -> httpx.Response:
    """The answer to a curl command."""
    command, *words = shlex.split(line, comments=True)
    assert command == "curl"
    (address,) = (word for word in words if word.startswith("http"))
    headers = dict(words[i + 1].split(": ") for i, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1] if "-d" in words else None
    assert {word for word in words if word.startswith("-")} <= {"-H", "-d", "-o"}
    return httpx.request(
        "POST" if body else "GET", address, headers=headers, content=body, timeout=HANG_S
    )


@pytest.mark.parametrize("line", REQUESTS)
def test_every_request_is_answered_as_the_guide_says(line: str, server: str, snapshot: str) -> None:
    answer = asked(here(line, server, snapshot))
    status = re.search(r"  # (\d{3})$", line)
    assert answer.status_code == int(status[1] if status else 200), answer.text
    if saved := re.search(r"-o \w+\.(\w+)", line):
        assert saved[1] in answer.headers["content-type"]


def is_part(shown: Any, found: Any) -> bool:
    """Whether an answer holds all of a shortened one; a text may end with three dots."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(
            name in found and is_part(member, found[name]) for name, member in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(found, list)
            and len(shown) <= len(found)
            and (bool(shown) or not found)
            and all(any(is_part(member, other) for other in found) for member in shown)
        )
    if isinstance(shown, str) and isinstance(found, str) and shown.endswith("..."):
        return found.startswith(shown.removesuffix("...").rstrip())
    if isinstance(shown, float) and isinstance(found, float):
        return found == pytest.approx(shown, abs=1e-9)
    return type(shown) is type(found) and bool(shown == found)


ANSWERED = [(block.splitlines()[-1], answer) for block, answer in SHELL if answer]


@pytest.mark.parametrize(("line", "answer"), ANSWERED)
def test_every_answer_matches_the_guide(line: str, answer: str, server: str, snapshot: str) -> None:
    shown = json.loads(re.sub(r",\s*\.\.\.(?=[,}\]\s])", "", here(answer, server, snapshot)))
    found = asked(here(line, server, snapshot)).json()
    assert is_part(shown, found), found
    left_out = set(found) - set(shown)
    # A shortened answer may leave out what only a findings page needs.
    missing = left_out - {"metrics", "warnings", "explained_by", "busy_load"}
    assert not missing, f"docs/api.md shows this answer without {missing}"


def test_the_comparison_of_answers_can_fail() -> None:
    assert is_part({"a": [1], "c": "be..."}, {"a": [2.5, 1], "b": 1, "c": "begin"})
    others: list[Any] = [
        {"b": [1]},
        {"a": ["x"]},
        {"a": 1},
        {"a": [True]},
        {"a": [None]},
        {"a": []},
        {"a": [2]},
    ]
    assert not any(is_part({"a": [1]}, other) for other in others)
    assert not is_part({"a": []}, {"a": [1]})
    assert not is_part("be...", "start")


def run(code: str, server: str) -> dict[str, Any]:
    """The names that a code block defines."""
    found: dict[str, Any] = {}
    exec(code.replace(ADDRESS, server), found)
    return found


def test_a_view_is_pulled_into_polars(lake: Path, server: str) -> None:
    metrics = run(WHOLE_VIEW, server)["metrics"]
    expected = query(lake, "from metrics")
    assert metrics.height == expected.height > 10
    assert_frame_equal(metrics, expected, check_row_order=False)


def test_a_view_is_pulled_page_by_page(lake: Path, server: str) -> None:
    predictions = run(PAGES.replace("limit=10000", "limit=100"), server)["predictions"]
    expected = query(lake, "from predictions")
    assert expected.height > 200  # three pages
    key = ["run_id", "level", "example_id"]
    assert_frame_equal(predictions.sort(key), expected.sort(key))


def test_a_chart_is_pulled_into_a_notebook(lake: Path, server: str) -> None:
    chart = run(NOTEBOOK, server)["chart"]
    drawn = chart.to_dict()  # altair validates it
    told = drawn["usermeta"]["prunelake"]
    assert query(lake, told["sql"]).height > 0
    assert httpx.get(f"{server}/health", timeout=HANG_S).json()["snapshot"] == told["snapshot"]


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below a heading row."""
    (rows,) = re.findall(rf"^\| {heading}.*\n\|[-| ]+\n((?:\|.*\n)+)", GUIDE, re.M)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


def test_the_addresses_match_the_server(lake: Path) -> None:
    named = set()
    for cell, _ in table("address"):
        named |= set(re.findall(r"`(?:POST )?(\S+)`", cell))
    paths = create_app(lake).openapi()["paths"]
    routes = {re.sub(r"^/views/\w+$", "/views/{name}", path) for path in paths}
    assert named == routes | {"/", "/openapi.json"}


def test_the_charts_match_the_catalog() -> None:
    listed = {
        name.strip("`"): (shows, tuple(re.findall(r"`(\w+)`", takes)))
        for name, shows, takes in table("chart")
    }
    expected = {kind.name: (kind.caption, kind.takes) for kind in CHARTS.values()}
    assert listed == expected, "docs/api.md, the table of charts"


def test_the_formats_and_controls_of_rows_are_named() -> None:
    text = "".join(cell for row in table("parameter") for cell in row)
    assert all(f"`{format.value}`" in text or f"={format.value}`" in text for format in RowFormat)
    assert all(f"`{name}=" in text for name in CONTROL_PARAMETERS)


def test_every_error_has_its_status_and_code() -> None:
    listed = {(int(status), code.strip("`")) for status, code, _ in table("status")}
    others = {
        (400, "bad_request"),
        (405, "method_not_allowed"),
        (406, "not_acceptable"),
        (408, "request_timeout"),
        (413, "too_large"),
        (500, "internal"),
    }
    assert listed == set(ERROR_STATUS.values()) | others


def test_errors_that_no_curl_line_shows_have_their_code(server: str) -> None:
    assert httpx.delete(f"{server}/models").json()["error"]["code"] == "method_not_allowed"
    large = httpx.post(f"{server}/sql", content=b" " * 1_400_000, timeout=HANG_S)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
