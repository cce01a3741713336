"""Import details of lighteval (`details_<task>_<date>.parquet`), multiple choice."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from prunelake.errors import BadRow, InvalidSpec, one_line, shortened, validation_message
from prunelake.identity import content_hash
from prunelake.imports.import_logs import import_logs
from prunelake.imports.imported_log import EncodableText, ImportedLog, LogProbability, Sample
from prunelake.imports.imported_run import LabelledFile
from prunelake.lake.storage.location import Location
from prunelake.tasks.rows import Example

SOURCE = "lighteval"
DETAILS_PATTERN = re.compile(r"details_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.parquet")
DETAILS_FOLDER, RESULTS_FOLDER = "details", "results"
ACCURACY_NAMES = ("acc", "loglikelihood_acc")
"""The names of the metric that lighteval computes from log-likelihoods without a normalisation."""

FIELDS = {
    "doc": ("id", "query", "choices", "gold_index", "instruction", "fewshot_samples"),
    "model_response": ("logprobs",),
    "metric": ACCURACY_NAMES,
}
"""The columns that are read, and their fields."""

OLDER_COLUMNS = {"full_prompt", "choices", "gold_index", "predictions", "metrics"}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


class Detail(BaseModel):
    """One row of either layout; a file has more columns."""

    id: str = ""
    prompt: EncodableText
    choices: Annotated[list[EncodableText], Field(min_length=2)]
    gold_index: Annotated[list[int], BeforeValidator(_as_list), Field(min_length=1, max_length=1)]
    log_likelihoods: list[LogProbability]
    metrics: dict[str, Any]
    context: Any = None


def import_lighteval(
    lake: Location,
    paths: Mapping[int, Path] | Sequence[LabelledFile],
    model: str | None = None,
    strategy: str = "",
    task: str | None = None,
) -> tuple[str, bool]:
    """Write the details of all levels as one run; return its id, and whether the run is new.

    The arguments are those of `harness.import_harness`.

    Raises:
        InvalidSpec, BadRow: as `read_lighteval` and `import_logs`.
        LakeError: the lake cannot be written.
    """
    return import_logs(lake, paths, lambda path: read_lighteval(path, task), model, strategy)


def read_lighteval(path: Path, task: str | None = None) -> ImportedLog:
    """The details at `path`: a file `details_<task>_<date>.parquet`, or a folder with such files.

    Both layouts are read: columns doc, model_response and metric (since 0.10), and flat columns,
    which older versions write as the text of Python values. The file `results_<date>.json` of the
    same output names model, revision and number format. The log-likelihood of an option is the sum
    over its tokens. Log-likelihoods without the question, which some metrics need, are left out.

    Raises:
        InvalidSpec: no such file, or several files that fit.
        BadRow: a file that is no Parquet of these columns, rows that are not multiple choice with
            one right option, or whose accuracy contradicts the log-likelihoods.
    """
    path, match = _details_file(path, task)
    details = _read_details(path)
    results = _read_results(path, match["date"])
    general = results.get("config_general") or {}
    config = general.get("model_config") or {}
    ids = [detail.id for detail in details]
    has_ids = all(ids) and len({*ids}) == len(ids)
    samples = [
        _sample(f"{path}, row {row}", f"doc:{detail.id if has_ids else row}", detail)
        for row, detail in enumerate(details)
    ]
    if all(sample.confidence is None for sample in samples):
        raise BadRow(f"{path}: no row has a finite log-likelihood of each option")
    return ImportedLog(
        file=path,
        source=SOURCE,
        task=match["task"],
        split="",
        model=general.get("model_name") or _model_of_folder(path),
        revision=general.get("model_sha") or config.get("revision") or "",
        dtype=(general.get("model_dtype") or config.get("dtype") or "").removeprefix("torch."),
        samples=tuple(samples),
        metadata={"lighteval_sha": general.get("lighteval_sha")},
    )


def _details_file(path: Path, task: str | None) -> tuple[Path, re.Match[str]]:
    if not path.exists():
        raise InvalidSpec(f"no file or folder {path}; give the details that lighteval saved")
    files = [path] if path.is_file() else sorted(path.rglob("details_*.parquet"))
    matches = [(file, match) for file in files if (match := DETAILS_PATTERN.fullmatch(file.name))]
    fitting = [(file, match) for file, match in matches if task in (None, match["task"])]
    if len(fitting) == 1:
        return fitting[0]
    names = shortened(", ".join(file.name for file, _ in fitting or matches) or "none", 300)
    if fitting:
        raise InvalidSpec(f"{path} has {names}; give one of the files, or --task")
    raise InvalidSpec(f"{path}: no details_{task or '<task>'}_<date>.parquet; found {names}")


def _read_details(path: Path) -> list[Detail]:
    try:
        lazy = pl.scan_parquet(path, glob=False)
        schema = lazy.collect_schema()
        names = {*schema}
        is_new = all(isinstance(schema.get(name), pl.Struct) for name in FIELDS)
        if not is_new and not names >= OLDER_COLUMNS:
            raise BadRow(
                f"{path}: no details of lighteval; it has the columns "
                f"{shortened(', '.join(sorted(names)))}"
            )
        wanted = [_fields_of(schema, name) for name in FIELDS] if is_new else sorted(OLDER_COLUMNS)
        rows = lazy.select(wanted).collect().to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadRow(f"{path} cannot be read: {one_line(error)}") from error
    if not rows:
        raise BadRow(f"{path} has no rows")
    details = []
    for number, row in enumerate(rows):
        try:
            fields = _fields(row) if is_new else _older_fields(row)
            details.append(Detail.model_validate(fields))
        except ValidationError as error:
            problem = validation_message(error.errors()[:1], whole="row")
        except (ValueError, SyntaxError, TypeError) as error:
            problem = one_line(error)
        else:
            continue
        raise BadRow(
            f"{path}, row {number}, {problem}; an import needs a multiple-choice task with one "
            "right option. Answers as texts can be brought by `prunelake import predictions`"
        )
    return details


def _fields_of(schema: pl.Schema, name: str) -> pl.Expr:
    """A column with the fields that are read, if it has them."""
    kind = schema[name]
    assert isinstance(kind, pl.Struct)
    present = [field.name for field in kind.fields if field.name in FIELDS[name]]
    return pl.struct([pl.col(name).struct.field(field) for field in present]).alias(name)


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Detail` in the layout since 0.10."""
    doc, response = row["doc"], row["model_response"]
    return {
        "id": str(doc.get("id") or ""),
        "prompt": doc.get("query"),
        "choices": doc.get("choices"),
        "gold_index": doc.get("gold_index"),
        "log_likelihoods": response.get("logprobs"),
        "metrics": row["metric"],
        "context": [
            doc.get("instruction"),
            [sample.get("query") for sample in doc.get("fewshot_samples") or []],
        ],
    }


def _older_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Detail` in the flat layout, whose values may be texts of Python values."""
    predictions, metrics = (_python(_finite(row[name])) for name in ("predictions", "metrics"))
    return {
        "prompt": row["full_prompt"],
        "choices": _python(row["choices"]),
        "gold_index": _python(row["gold_index"]),
        # A pair also says whether the option is the greedy answer.
        "log_likelihoods": [p[0] if isinstance(p, list | tuple) else p for p in predictions],
        "metrics": metrics,
    }


def _finite(value: Any) -> Any:
    """The text with literals in place of `inf`, a number too large for a float, and `nan`."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\bnan\b", "None", re.sub(r"\binf\b", "1e999", value))


def _python(value: Any) -> Any:
    return ast.literal_eval(value.strip()) if isinstance(value, str) else value


def _sample(where: str, example_id: str, detail: Detail) -> Sample:
    count = len(detail.choices)
    # Some metrics also need the log-likelihoods without the question: a second half.
    if len(detail.log_likelihoods) not in (count, 2 * count):
        raise BadRow(f"{where}: {len(detail.log_likelihoods)} log-likelihoods for {count} choices")
    texts = [choice.lstrip(" ") for choice in detail.choices]
    if not all(texts):
        raise BadRow(f"{where}: a choice is empty")
    if len({text.strip() for text in texts}) == 1:
        raise BadRow(f"{where}: all {count} choices are {shortened(texts[0])!r}")
    (gold,) = detail.gold_index
    if not 0 <= gold < count:
        raise BadRow(f"{where}: gold_index {gold} is none of {count} choices, from 0")
    sample = Sample(
        example=Example(example_id, detail.prompt, tuple(detail.choices), gold),
        log_likelihoods=tuple(detail.log_likelihoods[:count]),
        option_bytes=tuple(len(text.encode()) for text in texts),
        source_hash=content_hash([detail.prompt, detail.choices, gold, detail.context]),
    )
    for name in ACCURACY_NAMES:
        logged = detail.metrics.get(name)
        if logged is not None and bool(logged) != (sample.prediction == gold):
            raise BadRow(
                f"{where}: {name} is {logged:g}, but the log-likelihoods predict option "
                f"{sample.prediction} and the right option is {gold}"
            )
    return sample


def _model_of_folder(path: Path) -> str:
    """The model in `details/<model>/<date>/<file>`; empty for a file elsewhere."""
    parts = path.resolve().parts[:-2]
    if DETAILS_FOLDER not in parts:
        return ""
    start = len(parts) - parts[::-1].index(DETAILS_FOLDER)
    return "/".join(parts[start:])


def _read_results(path: Path, date: str) -> dict[str, Any]:
    """The results of the same date: beside the details, or in `results/<model>`; empty if none."""
    name = f"results_{date}.json"
    places = [path.with_name(name)]
    if model := _model_of_folder(path):
        root = path.resolve().parents[len(Path(model).parts) + 2]
        places.append(root / RESULTS_FOLDER / model / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return {}
    try:
        value = json.loads(found.read_bytes())
    except (OSError, ValueError) as error:
        raise BadRow(f"{found}: not JSON ({one_line(error)}); restore or move it") from error
    if not isinstance(value, dict) or not isinstance(value.get("config_general"), dict):
        raise BadRow(f"{found}: not the results of lighteval; restore or move it")
    return value
