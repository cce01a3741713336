"""Data readers that know only an address: byte ranges, HEAD, and compressed answers."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from starlette.testclient import TestClient

from tests.support.api.api_client import api_client
from tests.support.page.page_reader import running_server

FILE = "/views/metrics.parquet"
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
def client(sql_lake: Path) -> Iterator[TestClient]:
    with api_client(sql_lake) as client:
        yield client


@pytest.fixture(scope="module")
def body(client: TestClient) -> bytes:
    return client.get(FILE).content


def test_polars_reads_by_address(sql_lake: Path, body: bytes) -> None:
    expected = pl.read_parquet(io.BytesIO(body))
    with running_server(sql_lake) as address:
        assert pl.read_parquet(f"{address}{FILE}").equals(expected)
        some = pl.scan_parquet(f"{address}{FILE}").select("metric").head(3).collect()
        assert some["metric"].to_list() == expected["metric"][:3].to_list()
        assert pl.read_csv(f"{address}/views/metrics.csv").height == expected.height


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-3", slice(0, 4)),
        ("bytes=4-", slice(4, None)),
        ("bytes=-8", slice(-8, None)),
        ("bytes=10-999999999", slice(10, None)),
        ("bytes=-999999999", slice(None)),
    ],
)
def test_a_range_is_a_part_of_the_answer(
    client: TestClient, body: bytes, asked: str, part: slice
) -> None:
    answer = client.get(FILE, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == body[part]
    first = range(len(body))[part][0]
    end = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(body)}"
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=5-4", "bytes=-0"])
def test_a_range_without_bytes_is_refused_with_the_size(
    client: TestClient, body: bytes, asked: str
) -> None:
    answer = client.get(FILE, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{len(body)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "items=0-1", "bytes=", "bytes=-", "0-1"])
def test_other_ranges_get_the_whole_answer(client: TestClient, body: bytes, asked: str) -> None:
    answer = client.get(FILE, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, body)


def test_a_range_of_another_version_gets_the_whole_answer(client: TestClient, body: bytes) -> None:
    tag = client.get(FILE).headers["etag"]
    same = client.get(FILE, headers={"Range": "bytes=0-3", "If-Range": tag})
    assert (same.status_code, same.content) == (206, b"PAR1")
    for other in ('"other"', f"W/{tag}", "Sat, 28 Nov 2026 00:00:00 GMT"):
        answer = client.get(FILE, headers={"Range": "bytes=0-3", "If-Range": other})
        assert (answer.status_code, answer.content) == (200, body)


def test_head_gives_the_size_and_accepts_ranges(client: TestClient, body: bytes) -> None:
    head = client.head(FILE)
    assert head.headers["content-length"] == str(len(body))
    assert head.headers["accept-ranges"] == "bytes"


def test_a_reader_of_ranges_sees_the_file(client: TestClient, body: bytes) -> None:
    """pyarrow reads a file in which every read is a request for a range."""

    class Ranges(io.RawIOBase):
        position = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.position = offset + (0, self.position, len(body))[whence]
            return self.position

        def tell(self) -> int:
            return self.position

        def read(self, size: int = -1) -> bytes:
            end = len(body) if size < 0 else self.position + size
            asked = {"Range": f"bytes={self.position}-{end - 1}"}
            part = client.get(FILE, headers=asked).content
            self.position += len(part)
            return part

    assert pq.read_table(Ranges()).equals(pq.read_table(io.BytesIO(body)))


@pytest.mark.parametrize("path", ["/views/metrics", "/views/metrics.csv", "/openapi.json", "/"])
def test_large_texts_are_compressed(client: TestClient, path: str) -> None:
    plain = client.get(path, headers=PLAIN)
    with client.stream("GET", path, headers={"Accept-Encoding": "br, GZIP;q=0.5"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 2
    assert answer.headers["content-length"] == str(len(raw))
    assert answer.headers["etag"] == f"W/{plain.headers['etag']}"
    for found in (plain, answer):
        assert "Accept-Encoding" in found.headers["vary"]
    again = client.get(path, headers={"Accept-Encoding": "*"})
    assert again.content == plain.content


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("/views/metrics", "gzip;q=0"),
        ("/views/metrics", "*;q=0"),
        ("/views/metrics", "br"),
        (FILE, "gzip"),  # compressed already
        ("/health", "gzip"),  # small
    ],
)
def test_other_answers_are_not_compressed(client: TestClient, path: str, accepted: str) -> None:
    answer = client.get(path, headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers


def test_the_etag_of_a_compressed_answer_is_recognised(client: TestClient) -> None:
    tag = client.get("/views/metrics", headers={"Accept-Encoding": "gzip"}).headers["etag"]
    assert tag.startswith("W/")
    answer = client.get("/views/metrics", headers={"If-None-Match": tag})
    assert answer.status_code == 304
