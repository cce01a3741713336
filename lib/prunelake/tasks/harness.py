"""Find a task of lm-evaluation-harness by its name; refuse tasks that PruneLake cannot score."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, ClassVar

from prunelake.errors import UnknownTask, one_line
from prunelake.extras import require_extra
from prunelake.identity import HarnessPrompts
from prunelake.spec import HARNESS_PREFIX

NAMED_IN_YAML = re.compile(
    rb"""^["']?(?:task|group)["']?:[ \t]*["']?([^\s"'#\[\]{}]+)""", re.MULTILINE
)
REFERENCE = re.compile(r"harness:(?P<name>[^@\s]+)(?:@(?P<shots>\d+))?")
REFERENCE_FORM = "harness:NAME, or harness:NAME@5 with 5 examples in each prompt"

SHOT_SEED = 1234
"""The harness' default seed for drawing the examples in a prompt."""

OTHER_OUTPUTS = {
    "generate_until": "lets the model generate text",
    "loglikelihood": "scores one text and has no options",
    "loglikelihood_rolling": "measures perplexity and has no options",
}
"""The output types of tasks that are not multiple choice, as the end of a sentence."""

UNSUPPORTED_FIELDS = {
    "process_results": "scores its answers with its own function",
    "doc_to_image": "shows images",
    "doc_to_audio": "plays sounds",
    "use_prompt": "takes its prompt from another package",
    "unsafe_code": "runs code that a model writes",
}
"""Fields of a YAML file that change more than prompts and options."""


@dataclass(frozen=True)
class HarnessTask:
    """A multiple-choice task of lm-evaluation-harness; its rows are not read yet.

    - `name`: the reference, `harness:hellaswag` or `harness:hellaswag@5`.
    - `file`: the YAML file in the harness.
    - `split`: the split that the harness evaluates; it begins the ids of examples.
    - `dataset`: the name of the dataset on the hub and, behind a slash, its configuration.
    - `prompts`: the settings of the prompts, which belong to a run's identity.
    """

    name: str
    file: Path
    split: str
    dataset: str
    prompts: HarnessPrompts

    bundled: ClassVar[None] = None
    spare: ClassVar[tuple[str, ...]] = ()


def find_harness_task(reference: str) -> HarnessTask:
    """The task with the reference `harness:NAME` or `harness:NAME@SHOTS`.

        find_harness_task("harness:hellaswag@10")

    Without a number of shots, the task has the number in its YAML file, else 0. No rows are read.

    Raises:
        UnknownTask: the harness has no such task, or it is not multiple choice.
        MissingExtra: lm-evaluation-harness is not installed.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UnknownTask(f"task {reference!r}: write {REFERENCE_FORM}")
    name = match["name"]
    file = _yaml_file(name)
    config = harness_config(file, with_functions=False)
    if problem := _problem(config):
        raise UnknownTask(
            f"task {HARNESS_PREFIX}{name} {problem}; PruneLake runs multiple-choice tasks, "
            "including yes/no tasks"
        )
    split = config.get("test_split") or config.get("validation_split")
    if not split:
        raise UnknownTask(f"task {HARNESS_PREFIX}{name}: {file} names no split to evaluate")
    own_shots = config.get("num_fewshot")
    if own_shots == 0 and match["shots"] not in (None, "0"):
        raise UnknownTask(
            f"task {reference}: its YAML file allows 0 shots; write {HARNESS_PREFIX}{name}"
        )
    shots = int(match["shots"] or own_shots or 0)
    metadata = config.get("metadata")
    version = metadata.get("version", "") if isinstance(metadata, dict) else ""
    parts = (config.get("dataset_path"), config.get("dataset_name"))
    return HarnessTask(
        name=reference,
        file=file,
        split=split,
        dataset="/".join(str(part) for part in parts if part),
        prompts=HarnessPrompts(
            version=str(version), shots=shots, shot_seed=SHOT_SEED if shots else None
        ),
    )


def harness_config(file: Path, with_functions: bool) -> dict[str, Any]:
    """The content of a task's YAML file, with the files that it includes.

    The value of a function is its path. With `with_functions` it is the function itself, and the
    task's own modules are imported.

    Raises:
        UnknownTask: the file cannot be read.
    """
    with quiet_harness():
        from lm_eval.tasks._yaml_loader import load_yaml

        try:
            config: dict[str, Any] = load_yaml(file, resolve_func=with_functions)
        except Exception as error:  # YAML, files and the modules that it names raise any type
            raise UnknownTask(f"task file {file} cannot be read ({one_line(error)})") from error
    return config


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Hide the notices of the harness and the progress bars of `datasets`."""
    logger = getLogger("lm_eval")
    level = logger.level
    logger.setLevel(ERROR)
    import datasets

    bars = datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.utils.enable_progress_bars()


def _problem(config: dict[str, Any]) -> str | None:
    """Why a task cannot run, as the end of a sentence; None if it can."""
    if "class" in config:
        return "is written in Python"
    if isinstance(config.get("task"), list):
        tasks = [task if isinstance(task, str) else task.get("task") for task in config["task"]]
        named = ", ".join(f"{HARNESS_PREFIX}{task}" for task in tasks[:3] if isinstance(task, str))
        return f"is a group of tasks (such as {named}), but a sweep runs one task"
    output = config.get("output_type", "generate_until")
    if output != "multiple_choice":
        return OTHER_OUTPUTS.get(output, f"has the output type {output}")
    return next((text for name, text in UNSUPPORTED_FIELDS.items() if config.get(name)), None)


def _yaml_file(name: str) -> Path:
    """The YAML file of a task or a group.

    The harness' own index parses all 13,000 files as YAML, which takes seconds; a search of their
    texts is faster.
    """
    files = _yaml_files()
    if name not in files:
        close = [f"{HARNESS_PREFIX}{other}" for other in get_close_matches(name, files, n=3)]
        hint = f"did you mean {' or '.join(close)}?" if close else "`lm_eval ls tasks` lists all"
        raise UnknownTask(f"lm-evaluation-harness has no task {name!r}; {hint}")
    return files[name]


@cache
def _yaml_files() -> dict[str, Path]:
    """The YAML files of all tasks and groups of the installed harness, by name."""
    require_extra("harness")
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    found: dict[str, Path] = {}
    for folder, subfolders, files in os.walk(Path(spec.submodule_search_locations[0]) / "tasks"):
        subfolders.sort()
        for file in sorted(file for file in files if file.endswith(".yaml")):
            path = Path(folder, file)
            for name in NAMED_IN_YAML.findall(path.read_bytes()):
                found.setdefault(name.decode(), path)
    return found
