"""Import logs of lm-evaluation-harness (`--log_samples`), multiple choice."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunelake.errors import BadRow, InvalidSpec, one_line
from prunelake.imports.harness_samples import build_samples, check_hashes, read_rows
from prunelake.imports.import_logs import import_logs
from prunelake.imports.imported_log import ImportedLog
from prunelake.imports.imported_run import LabelledFile
from prunelake.lake.storage.location import Location
from prunelake.tasks.rows import OPTION_DELIMITER

SOURCE = "lm-evaluation-harness"
SPECIAL_TOKEN_KEYS = ("tokenizer_bos_token", "tokenizer_eos_token")  # padding has no effect
SAMPLES_FILE_PATTERN = re.compile(
    r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl(\.gz)?"
)


def import_harness(
    lake: Location,
    paths: Mapping[int, Path] | Sequence[LabelledFile],
    model: str | None = None,
    strategy: str = "",
    task: str | None = None,
) -> tuple[str, bool]:
    """Write the logs of all levels as one run; return its id, and whether the run is new.

    Args:
        lake: the lake to write to.
        paths: the log of each level, a file or a folder (see `read_harness`); or those of a
            baseline and its candidates.
        model: the name of the model; by default the name in the log of level 0.
        strategy: the name of the strategy that chose the removed layers, if known.
        task: the task to import from folders with several tasks.

    Raises:
        InvalidSpec, BadRow: as `read_harness` and `import_logs`.
        LakeError: the lake cannot be written.
    """
    return import_logs(lake, paths, lambda path: read_harness(path, task), model, strategy)


def read_harness(path: Path, task: str | None = None) -> ImportedLog:
    """The log at `path`: a file `samples_<task>_<date>.jsonl`, or a folder with such files.

    The file `results_<date>.json` beside it names model, number format, special tokens and split;
    without it they are empty. The size of an option excludes the delimiter before it, as in the
    harness. The lake's accuracy is `acc` of the harness, and its accuracy_norm is `acc_bytes`.
    `acc_norm` of the harness divides by characters, which is the same for ASCII options. The view
    `excluded` shows rows with a log-likelihood of -inf, and no metric uses them.

    Raises:
        InvalidSpec: no such file, several files that fit, or no name of a task.
        BadRow: rows that are not samples of one multiple-choice task, contradict their own hashes
            or scores, or have a log-likelihood that is NaN; or all rows have one of -inf.
    """
    path = _samples_file(path, task)
    match = SAMPLES_FILE_PATTERN.fullmatch(path.name)
    task_of_file = match["task"] if match else None
    if task_of_file is None and task is None:
        raise InvalidSpec(f"{path} is not named samples_<task>_<date>.jsonl; give --task")
    if None not in (task, task_of_file) and task != task_of_file:
        raise InvalidSpec(f"{path} belongs to task {task_of_file!r}, not to {task!r}")
    task = task or task_of_file or ""
    results = _read_results(path, match["date"]) if match else {}
    rows = read_rows(path)
    check_hashes(path, rows, results.get("task_hashes", {}).get(task))
    rows = sorted(rows, key=lambda row: row.doc_id)
    settings = results.get("configs", {}).get(task, {})
    config = results.get("config", {})
    split = settings.get("test_split") or settings.get("validation_split") or ""
    delimiter = settings.get("target_delimiter", OPTION_DELIMITER)
    return ImportedLog(
        file=path,
        source=SOURCE,
        task=task,
        split=split,
        model=results.get("model_name") or "",
        revision=config.get("model_sha") or "",
        dtype=(config.get("model_dtype") or "").removeprefix("torch."),
        samples=tuple(build_samples(path, rows, split, delimiter)),
        tokenizer=_special_tokens(results),
        metadata={
            "lm_eval_version": results.get("lm_eval_version"),
            "task_version": results.get("versions", {}).get(task),
            "n_shot": results.get("n-shot", {}).get(task),
        },
    )


def _samples_file(path: Path, task: str | None) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InvalidSpec(f"no file or folder {path}; give the output of lm_eval --log_samples")
    matches = [
        match for p in sorted(path.iterdir()) if (match := SAMPLES_FILE_PATTERN.fullmatch(p.name))
    ]
    fitting = [match.string for match in matches if task in (None, match["task"])]
    if len(fitting) == 1:
        return path / fitting[0]
    if fitting:
        raise InvalidSpec(f"{path} has {', '.join(fitting)}; give one of the files, or --task")
    tasks = ", ".join(match["task"] for match in matches) or "none"
    raise InvalidSpec(
        f"{path}: no samples_{task or '<task>'}_<date>.jsonl; it has samples of tasks: {tasks}"
    )


def _read_results(samples: Path, date: str) -> dict[str, Any]:
    """The results file of the same date beside the samples; empty if there is none."""
    path = samples.with_name(f"results_{date}.json")
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadRow(f"{path}: not JSON ({one_line(error)}); restore or move it") from error
    parts = ("config", "configs", "versions", "n-shot", "task_hashes")
    if not isinstance(value, dict) or not all(isinstance(value.get(p, {}), dict) for p in parts):
        raise BadRow(f"{path}: not the results of lm-evaluation-harness; restore or move it")
    return value


def _special_tokens(results: Mapping[str, Any]) -> str:
    """The special tokens and their ids: the harness logs nothing else about its tokenizer."""
    tokens = {name: results[name] for name in SPECIAL_TOKEN_KEYS if name in results}
    return json.dumps(tokens, sort_keys=True) if tokens else ""
