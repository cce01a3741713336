"""The cost of running a sweep besides its stages: flow, queue, workers of a pool, nodes of Ray.

Every process computes with one thread, on the CPU.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import torch
from polars.testing import assert_frame_equal
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings

from prunelake.analysis.analyse import analyse
from prunelake.flows.sweep import sweep
from prunelake.inference.nested import NestedModel
from prunelake.lake import commit, read
from prunelake.lake.partial_runs import ComputeCost
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import Explanation, Rows, Strategy, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps import steps
from prunelake.sweeps.evaluate import evaluate_shard, shard_work
from prunelake.sweeps.plan import plan_sweep
from prunelake.sweeps.run_rows import example_rows, layer_rows, run_row
from prunelake.sweeps.shards import split_into_shards
from prunelake.tasks.encoding import Encoder

ROOT = Path(__file__).parents[1]
PORT, RAY_PORT, RAY_HOST = 4287, 6387, "127.0.0.2"
PAIRS = 3


def spec_of(rows: int, seed: int | None = None) -> SweepSpec:
    """A sweep of rows that are all explained, at three levels."""
    return SweepSpec(
        task="everyday_knowledge",
        rows=Rows(first=rows),
        levels=(0, 2, 4),
        strategy=Strategy() if seed is None else Strategy(name="random", seed=seed),
        explain=Explanation(operators=("replace",), fractions=(0.2, 0.4)),
    )


def direct(spec: SweepSpec, settings: Settings) -> None:
    """The stages of a sweep one after the other, without a flow and without stored shards."""
    work = plan_sweep(spec, settings)
    run_id = work.identity.run_id
    loaded = load_model(work.source, spec.dtype, "cpu")
    order = removal_order(loaded.model, spec.strategy, work.calibration_windows)
    encoder = Encoder(loaded.tokenizer, spec.special_tokens)
    costs, found = [ComputeCost(0.0, 0.0, "cpu")], []
    for shard in split_into_shards(len(work.examples), len(work.explained_examples)):
        model = NestedModel(loaded.model, order.layers)
        found.append(evaluate_shard(shard_work(work, shard), encoder, model, lambda *_: None))
        costs.append(ComputeCost(model.forward_tokens, 0.0, "cpu"))
    frames = {name: pl.concat([frames[name] for frames in found]) for name in found[0]}
    frames |= {"layers": layer_rows(run_id, order), "examples": example_rows(work)}
    commit.write_run(settings.lake, run_row(work, order, costs), frames)
    analyse(settings.lake, run_id)


def flow(spec: SweepSpec, settings: Settings) -> None:
    steps._model_cache.clear()  # a process of its own has no model yet
    sweep(spec, settings)


@dataclass(frozen=True)
class Time:
    wall: float
    cpu: float
    rows: pl.DataFrame


def timed(
    run: Callable[[SweepSpec, Settings], None], spec: SweepSpec, **settings: str | None
) -> Time:
    """Seconds of a sweep into a new lake, and CPU seconds of this process."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = Settings(lake=Path(folder) / "lake", device="cpu", **settings)  # type: ignore[arg-type]  # values of fields
        wall, cpu = time.perf_counter(), time.process_time()
        run(spec, chosen)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Time(wall, cpu, read.read_table(chosen.lake, "deletions").sort(pl.all()))


def flow_overhead(rows: int) -> Iterator[str]:
    """Both alternately, so that other work of the machine affects both."""
    spec = spec_of(rows)
    timed(direct, spec_of(1))
    timed(flow, spec_of(1))
    pairs = []
    for number in range(PAIRS):
        print(f"pair {number + 1} of {PAIRS}, {load_of()}", file=sys.stderr)
        order = (direct, flow) if number % 2 == 0 else (flow, direct)
        found = {run: timed(run, spec) for run in order}
        assert_frame_equal(found[direct].rows, found[flow].rows)
        pairs.append((found[direct], found[flow]))
    yield f"| stages called directly, {rows} rows | {spread([d.wall for d, _ in pairs])} s |"
    yield f"| the flow | {spread([f.wall for _, f in pairs])} s |"
    wall = [100 * (f.wall / d.wall - 1) for d, f in pairs]
    yield f"| overhead of the flow | {spread(wall)} % |"
    cpu = [100 * (f.cpu / d.cpu - 1) for d, f in pairs]
    yield f"| the same in CPU time of the process | {spread(cpu)} % |"


def workers(rows: int) -> Iterator[str]:
    """Two sweeps on one worker of a pool, then two on two workers."""
    took = {}
    shards = len(split_into_shards(rows, rows))
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            for number in range(count):
                stack.enter_context(worker(f"{count}-{number}", Path(folder)))
            time.sleep(10)  # until they ask for work
            print(f"{count} workers, {load_of()}", file=sys.stderr)
            took[count] = swept([spec_of(rows, seed) for seed in (1, 2)])
            runs = read.read_table(Path(folder) / "lake", "runs")
        assert runs.height == 2
        outside = (count * took[count] - float(runs["duration_s"].sum())) / (2 * shards)
        yield f"| 2 sweeps of {shards} shards, workers: {count} | {took[count]:.1f} s |"
        yield f"| outside of measuring, per shard and worker | {outside:.1f} s |"
    yield f"| two workers against one | {took[1] / took[2]:.2f} x |"


def queued(count: int) -> Iterator[str]:
    """A flow run of `sweeps` with one sweep, then one with more, on one worker.

    Each sweep asks one question at two levels in another order, so it reuses nothing. The worker
    counts the CPU time of its flow runs, so other work of the machine affects the numbers little.
    """
    imports = "import prefect.engine, prefect.flow_engine"
    alone = statistics.median(cpu_of_python(imports) for _ in range(PAIRS))
    with_flow = [
        cpu_of_python(f"{imports}, prunelake.flows.sweeps, prunelake.flows.sweep")
        for _ in range(PAIRS)
    ]
    yield f"| imports of a flow run before it reads its spec | {spread(with_flow)} CPU s |"
    yield f"| of these, Prefect alone | {alone:.1f} CPU s |"
    tiny = spec_of(1).model_copy(update={"levels": (0, 1), "explain": None})
    specs = [
        tiny.model_copy(update={"strategy": Strategy(name="random", seed=seed)})
        for seed in range(count + 1)
    ]
    with tempfile.TemporaryDirectory() as folder, worker("queued", Path(folder)) as process:
        cpu: list[float] = []
        for group in (specs[:1], specs[1:]):
            before = cpu_of_children(process)
            completed([("sweeps/sweeps", {"specs": [s.model_dump(mode="json") for s in group]})])
            while (now := cpu_of_children(process)) == before:
                time.sleep(0.2)  # until the worker has seen the end of the process
            cpu.append(now - before)
        assert len(read.run_ids(Path(folder) / "lake")) == count + 1
    yield f"| a flow run of one tiny sweep | {cpu[0]:.1f} CPU s |"
    yield f"| each of {count} tiny sweeps in one flow run | {cpu[1] / count:.2f} CPU s |"


def cpu_of_python(code: str) -> float:
    """CPU seconds of a new interpreter that runs this code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_of_children(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of the children of a process that have ended."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.children_user + times.children_system)


def ray(rows: int) -> Iterator[str]:
    """A sweep in this process, then on two nodes of Ray with a core each."""
    spec, shards = spec_of(rows, 1), len(split_into_shards(rows, rows))
    here = timed(flow, spec)
    with two_nodes() as address:
        print(f"Ray, {load_of()}", file=sys.stderr)
        there = timed(flow, spec, task_runner="ray", ray_address=address)
    assert_frame_equal(here.rows, there.rows)
    yield f"| a sweep of {shards} shards in this process | {here.wall:.1f} s |"
    yield f"| on two Ray nodes of a core each | {there.wall:.1f} s |"
    yield f"| two Ray nodes against one process | {here.wall / there.wall:.2f} x |"
    beyond = (there.wall - here.wall / 2) / shards
    yield f"| beyond half of the time here, per shard | {beyond:.1f} s |"


@contextmanager
def server() -> Iterator[None]:
    """A Prefect server with the deployment of sweeps; flows of this process use it, too."""
    url = f"http://127.0.0.1:{PORT}/api"
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        os.environ |= {
            "PREFECT_HOME": home,
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": os.pathsep.join([f"{ROOT}/lib", str(ROOT)]),
        }
        stack.enter_context(
            temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_LEVEL: "WARNING"})
        )
        stack.enter_context(started("prefect", "server", "start", "--port", str(PORT)))
        while not _is_healthy(url):
            time.sleep(0.5)
        prefect("work-pool", "create", "gpu", "--type", "process")
        prefect("deploy", "--name", "sweep", "--name", "sweeps")
        yield


@contextmanager
def worker(name: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    options = {"PRUNELAKE_LAKE": str(folder / "lake"), "PRUNELAKE_DEVICE": "cpu"}
    command = ("prefect", "worker", "start", "--pool", "gpu", "--name", name, "--limit", "1")
    with started(*command, **options) as process:
        yield process


@contextmanager
def two_nodes() -> Iterator[str]:
    address = f"{RAY_HOST}:{RAY_PORT}"
    own = ("--node-ip-address", RAY_HOST, "--num-cpus", "1", "--object-store-memory", "100000000")
    head = ("--head", "--port", str(RAY_PORT), "--include-dashboard=false", "--disable-usage-stats")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray"))
        for node in (head, ("--address", address)):
            command = ("ray", "start", *node, *own, "--block")
            stack.enter_context(started(*command, RAY_TMPDIR=folder))
            time.sleep(15)
        yield address


@contextmanager
def started(*command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def prefect(*arguments: str) -> None:
    subprocess.run(
        ["prefect", "--no-prompt", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def swept(specs: list[SweepSpec]) -> float:
    """Seconds until the workers have finished these sweeps."""
    return completed([("sweep/sweep", {"spec": spec.model_dump(mode="json")}) for spec in specs])


def completed(requests: list[tuple[str, dict[str, Any]]]) -> float:
    """Seconds until the workers have finished flow runs of deployments with these parameters."""
    with get_client(sync_client=True) as client:
        began = time.perf_counter()
        runs = [
            client.create_flow_run_from_deployment(
                client.read_deployment_by_name(name).id,
                parameters=parameters,
                job_variables={"env": {"PRUNELAKE_DEVICE": "cpu"}},  # deployments require a GPU
            )
            for name, parameters in requests
        ]
        states = [run.state for run in runs]
        while not all(state is not None and state.is_final() for state in states):
            time.sleep(0.2)
            states = [client.read_flow_run(run.id).state for run in runs]
        took = time.perf_counter() - began
    assert all(state is not None and state.is_completed() for state in states), states
    return took


def spread(values: list[float]) -> str:
    """The median, and the range from smallest to largest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def load_of() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def _is_healthy(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def one_thread() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    torch.set_num_threads(1)
