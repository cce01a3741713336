"""Sweeps in this process, or in a process that is killed."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import relplot  # noqa: F401  # an analysis imports it late; here the forks share it
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from prunelake.analysis import analyse
from prunelake.cli.app import main
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.evaluate import evaluate_shard
from prunelake.sweeps.run import run_sweep

Sweep = Callable[[SweepSpec, Settings], str]

DISK_OPERATIONS = ("link", "replace", "fsync", "unlink", "rmdir")
VOLATILE_COLUMNS = {"runs": ["created_at", "duration_s"], "analyses": ["analysed_at"]}

# Loading a model first compiles a thousand patterns; the forks share them.
get_checkpoint_conversion_mapping("llama")

# Forks a process that has imported everything and started nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def quick_sweep(patch: pytest.MonkeyPatch) -> Sweep:
    """`run_sweep` with few replicates in its analysis."""
    patch.setattr(analyse, "BOOTSTRAP_REPLICATES", 50)
    return run_sweep


def tables(folder: Path, derived: bool = True) -> dict[str, pl.DataFrame]:
    """Every table of a lake, without the columns about the time of writing."""
    return {
        name: read.read_table(folder, name).drop(VOLATILE_COLUMNS.get(name, []))
        for name in (*RUN_TABLES, *(ANALYSIS_TABLES if derived else ()))
    }


def start_sweep_process(*arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process that runs `sweep_in_child` with these arguments."""
    process = PROCESSES.Process(target=sweep_in_child, args=arguments)
    process.start()
    return process


def sweep_in_child(
    spec: SweepSpec,
    settings: Settings,
    ledger: Path,
    deadly_step: int | None = None,
    largest_file: int | None = None,
    user: int | None = None,
) -> None:
    """Sweep. `ledger` gets a line for each shard before it is computed and for each step on disk.

    In front of the `deadly_step`-th of these steps, counted from 0, the process is killed. It may
    write files of `largest_file` bytes, and runs as `user`. An error of the lake is a line, too,
    and exit code 1.
    """
    patch = pytest.MonkeyPatch()
    sweep = quick_sweep(patch)
    lines = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    check_writable = commit.check_writable
    step_count = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*given: Any, **named: Any) -> Any:
            nonlocal step_count
            if step_count == deadly_step:
                os.kill(os.getpid(), signal.SIGKILL)
            step_count += 1
            os.write(lines, f"step {step.__name__} {given[-1]}\n".encode())
            return step(*given, **named)

        return counting

    def noted(work: Any, *given: Any) -> Any:
        os.write(lines, f"{work.shard.name}\n".encode())
        return evaluate_shard(work, *given)

    def as_user(folder: Path) -> None:
        if user is not None:
            os.setuid(user)
        check_writable(folder)

    for name in DISK_OPERATIONS:
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(steps, "evaluate_shard", noted)
    patch.setattr(commit, "check_writable", as_user)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        sweep(spec, settings)
    except LakeError as error:
        os.write(lines, f"{error}\n".encode())
        sys.exit(1)


def start_command(
    arguments: list[str],
    settings: Settings,
    output: Path,
    deadly_file: int | None = None,
    signal_number: int = signal.SIGKILL,
) -> multiprocessing.process.BaseProcess:
    """A process that runs `prunelake` with these arguments and writes its stderr to `output`.

    It gets the signal in front of the `deadly_file`-th file of a partial run, counted from 0.
    """
    process = PROCESSES.Process(
        target=command_in_child, args=(arguments, settings, output, deadly_file, signal_number)
    )
    process.start()
    return process


def command_in_child(
    arguments: list[str],
    settings: Settings,
    output: Path,
    deadly_file: int | None,
    signal_number: int,
) -> None:
    """Run a command like `start_command`, to its end."""
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    os.environ |= {"PRUNELAKE_CACHE": str(settings.cache), "PRUNELAKE_DEVICE": settings.device}
    sys.argv = ["prunelake", *arguments]
    patch = pytest.MonkeyPatch()
    quick_sweep(patch)
    file_count = 0

    def deadly(write: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(source: Any, target: Any) -> None:
            nonlocal file_count
            if ".shards" in str(target):
                if file_count == deadly_file:
                    os.kill(os.getpid(), signal_number)
                file_count += 1
            write(source, target)

        return write_or_die

    for name in ("link", "replace"):
        patch.setattr(os, name, deadly(getattr(os, name)))
    main()
