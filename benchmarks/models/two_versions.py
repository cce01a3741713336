"""Compare checkpoints in this transformers and in another version: the frame of two benchmarks."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from prunelake.models.loading import ModelSource
from prunelake.models.sources import resolve_model

READER = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
transformers.logging.set_verbosity_error()
{check}
for folder in sys.argv[1:]:
    name = folder.rpartition("/")[2]
    difference, same = check(folder, torch.load(folder + "/expected.pt"))
    print(f"| {{transformers.__version__}} | {{name}} | {{difference}} | {{same}} |", flush=True)
"""


def save_expected(folder: Path, **expected: Any) -> None:
    """Store what this transformers computes beside the checkpoint."""
    torch.save(expected, folder / "expected.pt")


def compare_versions(
    description: str | None,
    tiny_checkpoints: Callable[[Path], Iterator[Path]],
    real_checkpoint: Callable[[ModelSource, Path], Path],
    check: str,
) -> None:
    """Print a row for each checkpoint, first in this transformers, then in the other one.

    Args:
        description: the help of the benchmark.
        tiny_checkpoints: writes tiny checkpoints into a folder.
        real_checkpoint: writes a checkpoint of a real model (`--model`) into a new folder.
        check: the code of a function `check(folder, expected)`. It loads the checkpoint, and
            returns the largest difference of a logit, and whether the tokens are the same.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("python", help="the Python of an environment with another transformers")
    parser.add_argument("--model", help="a model reference")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [*tiny_checkpoints(Path(name))]
        if arguments.model:
            source = resolve_model(arguments.model, Path(name) / "cache")
            folders.append(real_checkpoint(source, Path(name) / "real-8"))
        print("| transformers | checkpoint | largest difference of a logit | same tokens |")
        print("| -- | -- | -- | -- |", flush=True)
        environment = os.environ | {"HF_MODULES_CACHE": f"{name}/modules"}
        for python in (sys.executable, arguments.python):
            command = [python, "-c", READER.format(check=check), *map(str, folders)]
            subprocess.run(command, check=True, cwd=name, env=environment)
