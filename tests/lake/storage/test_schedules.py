"""Many processes share a lake in random schedules: no row is lost, duplicated or changed."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunelake.errors import LakeError
from prunelake.lake import read
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.files import hashed_json, parquet
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import VOID, readable_run_ids
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import FENCE_GRACE, collect_garbage
from prunelake.lake.maintenance.retention import retire
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.object_stores.simulated_store import (
    Died,
    Process,
    SimulatedStore,
    simulated_lake,
    simulated_processes,
)
from tests.support.runs.lake_rows import layer, small_analysis, small_run

GRACE = timedelta(seconds=10)
LAKE = simulated_lake()
RUN_IDS = {name: small_run(name)[0]["run_id"] for name in ("a", "b", "old", "new")}

WRITERS = {"a, first": ("a", 0.5), "a, second": ("a", 0.75), "b": ("b", 0.5)}
"""The run that each writer writes, and the importance by which it can be recognised."""


def write(name: str, importance: float) -> bool:
    """Write a run as one machine has computed it: all tables have its rounding."""
    run, frames = small_run(name)
    run_id = run["run_id"]
    run |= {"task": name, "duration_s": importance}
    if name in ("old", "new"):  # two revisions of a model with the same settings
        run |= {"task": "both", "revision": ("0" if name == "old" else "1") * 40}
        run["created_at"] += datetime.timedelta(days=name == "new")
    rows = [layer(run_id, 0, importance, 1), layer(run_id, 1, 0.25, 0)]
    layers = pl.DataFrame(rows, schema=frames["layers"].schema)
    deletions = frames["deletions"].with_columns(fraction=pl.lit(importance))
    return write_run(LAKE, run, frames | {"layers": layers, "deletions": deletions})


def visible() -> dict[str, float]:
    """The runs that a reader sees, and the importance with which each was written."""
    content = read.read_content(LAKE)
    assert not content.damaged, content.damaged
    seen: dict[str, dict[str, list[float]]] = {}
    for table, column in (
        ("runs", "duration_s"),
        ("layers", "importance"),
        ("deletions", "fraction"),
    ):
        for path, manifest in content.files(RUN_TABLES[table]):
            rows = parquet.read(path, RUN_TABLES[table])
            for run_id, value in rows.select("run_id", column).iter_rows():
                if run_id in manifest.run_ids:
                    seen.setdefault(run_id, {}).setdefault(table, []).append(value)
    for run_id, values in seen.items():
        (value,) = values["runs"]
        assert values == {"runs": [value], "layers": [value, 0.25], "deletions": [value]}, run_id
    assert set(seen) == set(readable_run_ids(content.runs))
    return {run_id: values["runs"][0] for run_id, values in seen.items()}


@dataclass
class Observer:
    """What readers have seen so far, in the order of their reads."""

    store: SimulatedStore
    first: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Read all runs; a reader that slept longer than the grace period may find files gone."""
        expected, since = dict(self.first), self.store.seconds
        try:
            seen = visible()
        except (LakeError, AssertionError):
            if self.store.seconds - since < GRACE.total_seconds():
                raise
            return
        for run_id, value in expected.items():
            if run_id != RUN_IDS["old"]:  # it may be retired
                assert seen.get(run_id) == value, (run_id, seen)
        for run_id, value in seen.items():
            assert self.first.setdefault(run_id, value) == value, run_id

    def look_again(self) -> None:
        """Read all runs several times."""
        for _ in range(3):
            self.look()

    def analyse(self) -> None:
        """Write an analysis of the first run, if it is there."""
        try:
            write_analysis(LAKE, *small_analysis(RUN_IDS["a"]))
        except LakeError as error:
            if "no complete run" not in str(error):
                raise

    def maintain(self, work: Callable[[], object]) -> None:
        """Maintain the lake; work that slept longer than the grace period may find files gone."""
        since = self.store.seconds
        try:
            work()
        except LakeError:
            if self.store.seconds - since < GRACE.total_seconds():
                raise


def processes_of(observer: Observer) -> dict[str, Callable[[], object]]:
    """The work of each process."""
    works: dict[str, Callable[[], object]] = {
        writer: lambda run=run: write(*run)  # type: ignore[misc]  # a lambda with a default
        for writer, run in WRITERS.items()
    }
    for number in (1, 2):
        works[f"reader {number}"] = observer.look_again
        works[f"compact {number}"] = lambda: observer.maintain(lambda: compact(LAKE))
        works[f"gc {number}"] = lambda: observer.maintain(lambda: collect_garbage(LAKE, GRACE))
    works["analysis"] = observer.analyse
    works["retire"] = lambda: observer.maintain(lambda: retire(LAKE))
    return works


COUNT = len(processes_of(Observer(SimulatedStore())))

Turn = tuple[int, int, float]
"""A process, how many requests it sends, and the seconds that pass before them."""

ALL = 10_000
"""More requests than any process sends."""

MIXED = st.lists(
    st.tuples(
        st.integers(0, COUNT - 1),
        st.sampled_from([1, 2, 5, 10, 30, ALL]),
        st.sampled_from([0.0, 0.0, 0.0, 4.0, 11.0]),
    ),
    min_size=5,
    max_size=60,
)


def asleep(drawn: tuple[list[Turn], list[int], list[float]]) -> list[Turn]:
    """The turns of a few processes, then all turns of all others."""
    sleepers, order, seconds = drawn
    awake = [n for n in order if n not in {sleeper for sleeper, _, _ in sleepers}]
    return [*sleepers, *((n, ALL, s) for n, s in zip(awake, seconds, strict=False))]


SLEEPERS = st.tuples(
    st.lists(
        st.tuples(st.integers(0, COUNT - 1), st.integers(1, 50), st.just(0.0)),
        min_size=1,
        max_size=3,
    ),
    st.permutations(range(COUNT)),
    st.lists(st.sampled_from([0.0, 11.0]), min_size=COUNT, max_size=COUNT),
).map(asleep)
"""A few processes sleep within their work, and all others do theirs meanwhile."""

DEATHS = st.dictionaries(st.integers(0, COUNT - 1), st.integers(1, 40), max_size=3)
"""The processes that die, and at which of their requests."""


def play(store: SimulatedStore, turns: list[Turn], deaths: dict[int, int]) -> dict[str, Process]:
    """Let the processes run in this order; each then continues until its end."""
    observer = Observer(store)
    write("old", 0.5)
    write("new", 0.5)
    observer.look()
    with simulated_processes(store, processes_of(observer)) as processes:
        taken = [0] * COUNT
        rest = [(number, ALL, 0.0) for number in range(COUNT)]
        for number, requests, seconds in (*turns, *rest):
            store.seconds += seconds
            process = processes[number]
            for _ in range(requests):
                process.is_dead |= taken[number] == deaths.get(number)
                process.step()
                taken[number] += 1
                if process.is_over:
                    break
        assert all(process.is_over for process in processes)
        for process in processes:
            if process.error is not None and not isinstance(process.error, Died):
                raise AssertionError(process.name) from process.error
        check_end(observer, processes)
    return {process.name: process for process in processes}


def check_end(observer: Observer, processes: Any) -> None:
    """No run is lost, whatever maintenance follows, and no file is damaged."""
    results = {process.name: process.result for process in processes}
    for _ in range(2):
        observer.look()
        seen = visible()
        for writer, (name, importance) in WRITERS.items():
            if results[writer] is True:
                assert seen[RUN_IDS[name]] == importance, writer
        assert RUN_IDS["new"] in seen
        findings = {finding.kind for finding in verify_lake(LAKE)}
        assert findings <= {FindingKind.unanalysed, FindingKind.orphaned, FindingKind.lost}
        observer.store.seconds += 2 * GRACE.total_seconds()
        collect_garbage(LAKE, GRACE)
        compact(LAKE)
    assert [results["a, first"], results["a, second"]].count(True) <= 1
    check_months_later(observer.store)


def check_months_later(store: SimulatedStore) -> None:
    """All marks and void manifests are gone, except those of lost runs, and no answer changes."""
    seen = visible()
    for _ in range(3):  # the first one may still create void manifests
        store.seconds += 2 * FENCE_GRACE.total_seconds()
        collect_garbage(LAKE, GRACE)
        assert visible() == seen
    if FindingKind.lost not in {finding.kind for finding in verify_lake(LAKE)}:
        void = hashed_json.encode(VOID)
        assert not [
            k for k, o in store.objects.items() if k.endswith(".retired") or o.content == void
        ]


@settings(max_examples=repeats(10, 300), deadline=None, suppress_health_check=list(HealthCheck))
@given(MIXED | SLEEPERS, DEATHS, st.sampled_from([0, 0, 5]))
def test_no_schedule_loses_duplicates_or_changes_a_row(
    turns: list[Turn], deaths: dict[int, int], list_lag: int
) -> None:
    store = SimulatedStore(list_lag)
    with simulated_processes(store, {}):
        play(store, turns, deaths)
