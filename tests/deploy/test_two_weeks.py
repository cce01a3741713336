"""Two weeks of operations in an hour; tests/support/operations/two_weeks.py describes them.

TWO_WEEKS_DAYS and TWO_WEEKS_DAY_S shorten it. It needs the Debian package `postgresql`, and for
the full disk the right to mount. Its summary is in docs/operations.md:

    TWO_WEEKS_DAYS=3 PRUNELAKE_ENDURANCE=1 pytest -s tests/deploy/test_two_weeks.py
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from prunelake.flows.serverless import MACHINE_FAILURE
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.watch.decision import MAX_ATTEMPTS
from tests.support.models.tiny_models import tiny_model
from tests.support.operations.operations_guide import PAGE
from tests.support.operations.shard_ledger import computed_twice
from tests.support.operations.small_disk import small_disk
from tests.support.operations.two_weeks import WORKERS, TwoWeeks, attempts
from tests.support.operations.two_weeks_files import BROKEN_MODEL
from tests.support.servers.hub_server import running_hub
from tests.support.servers.postgres import running_postgres

pytestmark = pytest.mark.endurance

DAYS = int(os.environ.get("TWO_WEEKS_DAYS", "14"))
DAY_S = float(os.environ.get("TWO_WEEKS_DAY_S", "120"))


@pytest.fixture(scope="module")
def two_weeks(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoWeeks]:
    folder = tmp_path_factory.mktemp("two_weeks")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    def model(number: int, target: Path) -> Path:
        """A model whose weights depend on the number."""
        tokenizer.save_pretrained(target)
        made = tiny_model("llama", vocab_size=len(tokenizer))
        generator = torch.Generator().manual_seed(number)
        for parameter in made.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        made.save_pretrained(target)
        return target

    pages: dict[str, bytes] = {}
    with (
        running_postgres() as postgres,
        running_hub(pages) as hub,
        small_disk(folder / "lake") as own,
    ):
        site = TwoWeeks(folder, postgres, hub, pages, model, DAY_S)
        try:
            site.start()
            for day in range(DAYS):
                site.live(
                    day,
                    is_server_down=day == DAYS // 3,
                    is_disk_full=own and day == 2 * DAYS // 3,
                )
                print(f"day {day}: {site.days[-1]}", flush=True)
            site.finish()
            print(summary(site), flush=True)
            yield site
        finally:
            site.stop()


def summary(site: TwoWeeks) -> str:
    """The numbers of the simulation."""
    runs = "".join(
        f"\n  {state} {flow}: {n}" for (flow, state), n in sorted(site.flow_runs().items())
    )
    begun = Counter((line.run_id, line.shard) for line in site.ledger() if line.event == "begin")
    return (
        f"{len(site.days)} days, {sum(day.seconds for day in site.days):.0f} s; "
        f"{len(site.expected)} evaluations, {len(begun)} shards, "
        f"{sum(begun.values()) - len(begun)} of them begun again; flow runs:{runs}\n"
        f"database: {site.first_database_bytes} bytes, then {site.postgres.size}; "
        f"failed sweeps: {Counter(site.failed_sweeps())}\n"
        f"restarts without a kill: {site.unordered_ends}; "
        f"the slowest end after a kill: {site.services.slowest_end_s:.1f} s"
    )


def test_every_release_is_evaluated_once(two_weeks: TwoWeeks) -> None:
    assert Counter(two_weeks.evaluated()) == dict.fromkeys(two_weeks.expected, 1)


def test_no_shard_is_computed_twice(two_weeks: TwoWeeks) -> None:
    ledger = two_weeks.ledger()
    assert computed_twice(ledger, two_weeks.killed) == []
    # The kills have interrupted shards, which were computed again.
    assert len({line.pid for line in ledger} & two_weeks.killed) > 0


def test_the_published_snapshot_has_all_runs(two_weeks: TwoWeeks) -> None:
    assert two_weeks.published() == len(two_weeks.expected)


def test_the_lake_has_no_leftovers(two_weeks: TwoWeeks) -> None:
    assert verify_lake(two_weeks.lake) == []
    metrics = two_weeks.metrics
    for name in ("evaluations_in_flight", "unfinished_runs", "unfinished_shards"):
        assert metrics[f"prunelake_{name}"] == 0, name
    assert metrics["prunelake_doctor_problems"] == 0
    assert metrics["prunelake_watch_round_problems"] == 1  # the model that never loads


def test_failures_are_recorded_by_kind(two_weeks: TwoWeeks) -> None:
    (broken,) = attempts(two_weeks.lake)
    assert broken["model"] == f"hub:{BROKEN_MODEL}"
    assert (broken["state"], broken["retry_at"]) == ("failed", None)  # it is parked
    assert broken["number"] == MAX_ATTEMPTS
    failed = two_weeks.failed_sweeps()
    # Only the model that never loads has failed; machines failed the others.
    assert {state for name, state in failed if BROKEN_MODEL not in name} <= {
        "Crashed",
        MACHINE_FAILURE,
    }
    assert Counter(failed)[f"hub:{BROKEN_MODEL} opinions random:1", "Failed"] == MAX_ATTEMPTS


def test_no_process_is_left(two_weeks: TwoWeeks) -> None:
    assert two_weeks.orphans == []
    assert max(day.process_count for day in two_weeks.days) < 40
    assert two_weeks.left_after_stop == []


def test_database_and_lake_keep_their_planned_size(two_weeks: TwoWeeks) -> None:
    last = two_weeks.days[-1]
    flow_runs = sum(two_weeks.flow_runs().values())
    planned = re.search(r"(\d+) kB of the database for each flow run", PAGE)
    assert planned is not None
    assert last.database_bytes - two_weeks.first_database_bytes < int(planned[1]) * 1e3 * flow_runs
    assert last.lake_bytes < 20e6 + 300e3 * last.run_count


def test_no_log_of_a_service_has_a_complaint(two_weeks: TwoWeeks) -> None:
    for name in ("prunelake-cpu", *WORKERS):
        log = two_weeks.services.log(name)
        for complaint in ("leaked", "database is locked", "Fetching", "it/s]"):
            assert complaint not in log, name
