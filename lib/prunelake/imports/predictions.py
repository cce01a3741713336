"""Import predictions of a baseline and its candidates from CSV, JSONL or Parquet files."""

from collections.abc import Sequence

import polars as pl

from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.errors import InvalidSpec
from prunelake.identity import content_hash
from prunelake.imports.answers import join_files, number_options
from prunelake.imports.imported_run import (
    LabelledFile,
    check_name,
    level_rows,
    named_levels,
    write_imported_run,
)
from prunelake.imports.prediction_file import PredictionColumns, read_predictions
from prunelake.lake.storage.location import Location
from prunelake.schema.run_tables import EXAMPLES, PREDICTIONS

SOURCE = "predictions"


def import_predictions(
    lake: Location,
    baseline: LabelledFile,
    candidates: Sequence[LabelledFile],
    task: str,
    model: str,
    columns: PredictionColumns | None = None,
) -> tuple[str, bool]:
    """Write predictions as one run, in which level 0 is the baseline and each candidate is a level.

    Args:
        lake: the lake to write to.
        baseline: the file of the model that the candidates are compared with.
        candidates: the files of the other models, with the same ids in any order.
        task: the name of the task.
        model: the name of the baseline's model.
        columns: the names of the columns; by default those of `PredictionColumns`.

    Returns:
        The id of the run, and whether the run is new.

    Raises:
        InvalidSpec: as `read_predictions`; no candidate, a repeated label, a name as in
            `check_name`; or files with different ids, gold answers, options or prompts.
        BadRow: as `read_predictions`. The lake is unchanged after an error.
        LakeError: the lake cannot be written.
    """
    files = [baseline, *candidates]
    if not candidates:
        raise InvalidSpec("no candidate; give at least one by --candidate LABEL=FILE")
    rows = level_rows(
        [
            {
                "label": file.label,
                "model": file.model or model,
                "revision": file.revision,
                "dtype": file.dtype,
            }
            for file in files
        ]
    )
    check_name("task", task)
    frames = [read_predictions(file.path, columns or PredictionColumns()) for file in files]
    paths = [file.path for file in files]
    questions, answers = number_options(paths, *join_files(paths, frames))
    identity = {
        "source": SOURCE,
        "model": model,
        "revision": baseline.revision,
        "strategy": COMPARISON_STRATEGY,
        "task": task,
        "dtype": baseline.dtype,
        "levels": named_levels(rows),
        "data_hash": content_hash(questions.rows()),
        "predictions_hash": content_hash(answers.rows()),
    }
    metadata = {"levels": {str(level): {"file": f.path.name} for level, f in enumerate(files)}}
    return write_imported_run(
        lake,
        identity,
        [*range(len(files))],
        metadata,
        {
            "levels": rows,
            "examples": _as_examples(questions),
            "predictions": _as_predictions(answers),
        },
    )


def _as_examples(questions: pl.DataFrame) -> pl.DataFrame:
    """The rows of `examples`, without a run id."""
    return questions.select(
        pl.col("id").alias("example_id"),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("position"),
        "prompt",
        "options",
        "gold",
        pl.lit([], EXAMPLES.schema["prompt_tokens"]).alias("prompt_tokens"),
    )


def _as_predictions(answers: pl.DataFrame) -> pl.DataFrame:
    """The rows of `predictions`, without a run id: no log-likelihoods and no sizes of options."""
    known = {"example_id": pl.col("id"), "is_correct": pl.col("is_correct")}
    known |= {name: pl.col(name) for name in ("level", "gold", "prediction", "confidence")}
    return answers.select(
        known.get(name, pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in PREDICTIONS.schema.items()
        if name != "run_id"
    )
