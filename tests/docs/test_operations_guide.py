"""docs/operations.md against a real server and real workers, all on loopback.

Every sweep of a worker is a process that imports torch, so that only `make endurance` follows the
whole page. tests/flows/test_deployments.py follows the deployments without workers.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun

import prunelake.flows.watch
from prunelake.lake import attempt_log
from prunelake.lake import read as lake_read
from prunelake.watch.decision import EvaluationState
from prunelake.watch.round_lines import RoundLine
from tests.support.operations.operations_guide import (
    GuideRun,
    finished,
    guide_run,
    pid,
    published_after,
    round_of,
    wait_for,
)

pytestmark = pytest.mark.endurance


@dataclass
class Story:
    """The observations while the test followed the page."""

    site: GuideRun
    waiting: FlowRun | None = None  # the sweep of `watch` while the first sweep has the worker
    first: FlowRun | None = None  # the sweep that was started by hand
    killed: FlowRun | None = None  # the sweep of `watch`, whose machine dies
    retried: FlowRun | None = None
    published: FlowRun | None = None
    watched: FlowRun | None = None
    dead: list[RoundLine] = field(default_factory=list)
    done: list[RoundLine] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    on_ray: str = ""  # the output of the cluster's workers
    schedules: list[int] = field(default_factory=list)
    hourly: list[FlowRun] = field(default_factory=list)
    pair: list[FlowRun] = field(default_factory=list)  # started at the same time on two workers


@pytest.fixture(scope="module")
def story(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with guide_run(tmp_path_factory.mktemp("site"), tiny_folder) as place:
        found = Story(place)
        follow(found)
        yield found


def follow(story: Story) -> None:
    place = story.site
    place.exports()
    place.start("prefect server start")
    wait_for(place.is_healthy, "the server")
    place.run("prefect work-pool create gpu")
    place.run("prefect work-pool create cpu")
    place.run("prefect deploy --all")
    gpu_worker = place.start("CUDA_VISIBLE_DEVICES=0 prefect worker start --pool gpu")
    place.start("prefect worker start --pool cpu")
    place.run("prefect deployment run sweep/sweep")
    (first,) = place.flow_runs("sweep")
    held = taken(place, first)
    os.kill(pid(held), signal.SIGSTOP)  # it keeps its worker until the next sweep waits for one
    story.said["dry run"] = place.run("prunelake watch watchlist.yaml --dry-run")
    story.said["watch"] = place.run("prefect deployment run watch/watch --watch")
    (story.watched,) = place.flow_runs("watch")
    (second,) = (run for run in place.flow_runs("sweep") if run.id != first.id)
    wait_for(lambda: "Flow run limit reached" in place.log(1), "a worker at its limit")
    story.waiting = place.flow_run(second.id)
    os.kill(pid(held), signal.SIGCONT)
    story.first = finished(place, first)
    story.killed = wait_for(lambda: running(place, second), "the sweep of watch")
    os.kill(pid(story.killed), signal.SIGSTOP)  # it keeps its worker, and reports no death later
    story.published = finished(place, published_after(place, first))
    place.pause_automations()
    place.kill(1)
    os.kill(pid(story.killed), signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prunelake.flows.watch, "FLOW_RUN_TIMEOUT", timedelta(0))
        story.dead = round_of(place)
    story.said["retry"] = place.run("prunelake watch watchlist.yaml --deploy --retry")
    third = place.flow_runs("sweep")[-1]
    place.again(gpu_worker)
    story.retried = finished(place, third)
    story.said["list"] = place.run("prefect flow-run ls")
    story.said["sql"] = place.run("prunelake sql")
    story.done = round_of(place)
    story.schedules.append(schedules())
    story.hourly = wait_for(lambda: place.flow_runs("watch", scheduled=True), "the hours to come")
    place.run("prefect deployment schedule clear")
    story.schedules.append(schedules())
    place.run("prefect deploy --name watch")
    story.schedules.append(schedules())
    follow_second_worker(story)
    follow_ray(story)


def follow_second_worker(story: Story) -> None:
    place = story.site
    place.start("prefect worker start --pool gpu --name second-gpu-0")
    wait_for(lambda: "second-gpu-0" in place.workers("gpu"), "the second worker")
    for _ in range(2):
        place.run("prefect deployment run sweep/sweep")
        held = taken(place, place.flow_runs("sweep")[-1])
        os.kill(pid(held), signal.SIGSTOP)  # it keeps its worker until both workers have a sweep
        story.pair.append(held)
    for run in story.pair:
        os.kill(pid(run), signal.SIGCONT)
    story.pair = [finished(place, run) for run in story.pair]


def follow_ray(story: Story) -> None:
    place = story.site
    place.exports()
    place.start("ray start --head")
    wait_for(lambda: "Ray runtime started" in place.log(5), "the head of the Ray cluster")
    place.start("ray start --address")
    wait_for(lambda: "Ray runtime started" in place.log(6), "the second node of the Ray cluster")
    place.exports()
    place.run_process("prunelake sweep")
    story.on_ray = place.ray_logs()


def taken(place: GuideRun, run: FlowRun) -> FlowRun:
    """Wait for the process that a worker starts for a flow run."""

    def submitted() -> FlowRun | None:
        now = place.flow_run(run.id)
        return now if now.infrastructure_pid else None

    return wait_for(submitted, f"a worker for {run.name}")


def took(log: str, run: FlowRun) -> bool:
    """Whether a worker's log says that it took a run, and did not only ask for it."""
    is_lost = f"Aborted submission of flow run '{run.id}'" in log
    return f"submitting flow run '{run.id}'" in log and not is_lost


def running(place: GuideRun, run: FlowRun) -> FlowRun | None:
    now = place.flow_run(run.id)
    return now if now.state is not None and now.state.is_running() else None


def schedules() -> int:
    with get_client(sync_client=True) as client:
        return len(client.read_deployment_by_name("watch/watch").schedules)


def test_two_sweeps_spread_over_two_workers_of_a_pool(story: Story) -> None:
    assert all(run.state is not None and run.state.is_completed() for run in story.pair)
    taken = [[took(story.site.log(place), run) for run in story.pair] for place in (3, 4)]
    assert sorted(taken) == [[False, True], [True, False]]


def test_a_sweep_with_the_variables_of_the_page_runs_on_ray(story: Story) -> None:
    for shard in ("examples 0 to 3", "examples 4 to 7", "examples 8 to 11"):
        assert f"{shard}: " in story.on_ray
    assert "random:4" in lake_read.read_table(story.site.lake, "runs")["strategy"].to_list()


def test_every_command_of_the_page_was_run(story: Story) -> None:
    assert story.site.left == []


def test_missing_evaluations_run_on_a_worker_and_reach_the_lake(story: Story) -> None:
    assert story.said["dry run"].splitlines()[-1] == "1 missing"
    assert story.watched is not None
    assert story.watched.name == "watch watchlist.yaml"
    assert story.watched.state is not None
    assert (story.watched.state.name, story.watched.state.message) == ("Completed", "1 started")
    assert story.said["retry"].splitlines()[-1] == "1 in flight"
    assert story.retried is not None
    assert story.retried.state is not None
    assert story.retried.state.is_completed()
    assert story.said["sql"].count("random:") == 2
    assert len(lake_read.run_ids(story.site.lake)) == 5
    assert story.done == []
    assert attempt_log.read_attempts(story.site.lake) == {}


def test_one_worker_runs_one_sweep_at_a_time(story: Story) -> None:
    assert story.first is not None
    assert story.killed is not None
    assert story.first.state is not None
    assert story.first.state.is_completed()
    assert story.first.end_time is not None
    assert story.killed.start_time is not None
    assert story.first.end_time <= story.killed.start_time
    assert story.waiting is not None
    assert story.waiting.state is not None
    assert story.waiting.state.is_scheduled()


def test_a_publication_follows_a_sweep_and_waits_for_no_gpu(story: Story) -> None:
    assert story.published is not None
    assert story.published.state is not None
    assert story.published.state.is_completed()
    assert story.published.end_time is not None
    assert story.killed is not None
    assert story.killed.infrastructure_pid
    assert (story.site.lake / "prunelake.duckdb").is_file()


def test_a_sweep_whose_machine_died_is_a_failed_attempt(story: Story) -> None:
    (line,) = story.dead
    assert line.state is EvaluationState.started  # at once: its machine failed, not its model
    assert story.killed is not None
    now = story.site.flow_run(story.killed.id)
    assert now.state is not None
    assert now.state.is_crashed()
    assert "no sign of life" in (now.state.message or "")


def test_a_worker_that_was_killed_is_free_again(story: Story) -> None:
    assert story.retried is not None
    assert story.killed is not None
    assert story.retried.id != story.killed.id
    assert story.retried.start_time is not None


def test_a_sweep_reports_its_device(story: Story) -> None:
    assert "computing on cpu, as the settings say" in story.site.log(1)


def test_the_next_hours_are_scheduled(story: Story) -> None:
    starts = [run.expected_start_time for run in story.hourly]
    assert all(start is not None for start in starts)
    first, second, *_ = sorted(start for start in starts if start is not None)
    assert second - first == timedelta(hours=1)


def test_a_cleared_schedule_returns_with_the_next_deployment(
    story: Story,
) -> None:
    assert story.schedules == [1, 0, 1]
