"""Simultaneous clients do not block each other."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.limits import HANG_S
from tests.support.runs.example_runs import explained_run


def test_drawing_charts_does_not_block_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained_run(tmp_path, "run")
    publish(tmp_path, analyse)
    may_go_on = threading.Event()

    def slow(*_: object) -> bytes:
        assert may_go_on.wait(HANG_S)
        return b"{}"

    monkeypatch.setattr("prunelake.api.routes.charts._answer", slow)
    with api_client(tmp_path) as client, ThreadPoolExecutor(61) as pool:
        # More than the threads that answer with rows.
        asked = [pool.submit(client.get, f"/charts/confidence.json?level={i}") for i in range(60)]
        rows = pool.submit(client.get, "/views/metrics")
        try:
            assert rows.result(HANG_S).status_code == 200
            assert not any(chart.done() for chart in asked)
        finally:
            may_go_on.set()
        assert {chart.result(HANG_S).status_code for chart in asked} == {200}


def test_simultaneous_equal_requests_share_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained_run(tmp_path, "run")
    publish(tmp_path, analyse)
    all_are_there = threading.Event()
    drawn = []

    def counted(*_: object) -> bytes:
        drawn.append(1)
        assert all_are_there.wait(HANG_S)
        return b"{}"

    monkeypatch.setattr("prunelake.api.routes.charts._answer", counted)
    with api_client(tmp_path) as client, ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.get, "/charts/confidence.json") for _ in range(20)]
        other = client.get("/views/metrics")
        all_are_there.set()
        answers = {chart.result(HANG_S).content for chart in asked}
    assert (len(drawn), answers, other.status_code) == (1, {b"{}"}, 200)
