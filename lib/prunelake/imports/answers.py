"""Join files of predictions by the ids of their questions, and number the options."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

import polars as pl

from prunelake.errors import BadRow, InvalidSpec, shortened
from prunelake.imports.prediction_values import CONVERTERS, first_true

QUESTION_COLUMNS = ("gold", "prompt", "options", "option_count")
"""The columns that belong to a question, and are the same in every file that has them."""


def join_files(
    paths: Sequence[Path], frames: Sequence[pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The questions and the answers of several files; the first file gives the order.

    `frames` are the rows of `paths` as `prediction_file.read_predictions` gives them. A question
    has an id and `QUESTION_COLUMNS`. An answer has level (the number of its file), id, prediction,
    is_correct and confidence. If no file has gold answers, all predictions of a question that are
    correct count as one answer, which is then gold; it is null where no file is correct.

    Raises:
        InvalidSpec: files with different ids, gold answers, options or prompts; or a file without
            gold answers.
        BadRow: a prediction that is correct by one column or file, and wrong by another.
    """
    aligned = [
        _in_order(paths[0], frames[0], path, frame)
        for path, frame in zip(paths, frames, strict=True)
    ]
    questions = _questions(paths, aligned)
    has_gold = questions["gold"].null_count() < questions.height
    answers = []
    for level, (path, frame) in enumerate(zip(paths, aligned, strict=True)):
        if not has_gold and "correct" not in frame.columns:
            raise InvalidSpec(
                f"{path}: no column of right answers; give it by --column gold=NAME, or the column "
                "that says whether a prediction is correct by --column correct=NAME"
            )
        answer = frame.select(
            pl.lit(level, pl.Int32).alias("level"),
            "id",
            "prediction",
            (
                pl.col("prediction") == questions["gold"]
                if has_gold
                else pl.when(pl.col("prediction").is_not_null()).then(pl.col("correct"))
            ).alias("is_correct"),
            (
                pl.col("confidence")
                if "confidence" in frame.columns
                else pl.lit(None, pl.Float64).alias("confidence")
            ),
        )
        if has_gold and "correct" in frame.columns:
            _check_correct(path, frame["correct"], answer, questions["gold"])
        answers.append(answer)
    joined = pl.concat(answers)
    if has_gold:
        _check_same_form(paths[0], joined, questions)
        return questions, joined
    return _with_gold_of_correct(paths, questions, joined)


def number_options(
    paths: Sequence[Path], questions: pl.DataFrame, answers: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replace answers by the index of their option, in the columns gold and prediction.

    An answer may be the text of an option, its letter (A, B, ...) or its number from 0. All answers
    have the same form: the first of these that fits all. Without options and option_count, the
    options of a question are the different answers that the files give, in alphabetical order.

    Raises:
        BadRow: an answer that is not an option.
    """
    given = pl.concat(
        [
            questions.select("id", pl.col("gold").alias("answer")),
            answers.select("id", pl.col("prediction").alias("answer")),
        ]
    ).drop_nulls()
    named, misfits = None, None
    for names in _forms(questions, given):
        found = _numbered(names)
        unknown = given.join(found, on=["id", "answer"], how="anti", maintain_order="left")
        if unknown.is_empty():
            named = names
            break
        if misfits is None or unknown.height < misfits[1].height:
            misfits = names, unknown
    if named is None:
        assert misfits is not None  # without options, all answers fit
        names, unknown = misfits
        question, answer = unknown.row(0)
        options = names.filter(id=question)["options"][0].to_list()
        given_by = answers.filter(id=question, prediction=answer)["level"]
        kind, path = ("prediction", paths[given_by[0]]) if len(given_by) else ("gold", paths[0])
        raise BadRow(
            f"{path}, id {shortened(repr(question))}: {kind} {shortened(repr(answer))} is no "
            f"option; the options are {shortened(', '.join(options))}. Write the text of an "
            "option, its letter or its number from 0, in the same way in all rows"
        )
    if questions["options"].null_count() == questions.height:
        questions = questions.drop("options").join(named, on="id", maintain_order="left")
    found = _numbered(named)
    gold = found.rename({"answer": "gold", "index": "gold_index"})
    chosen = found.rename({"answer": "prediction", "index": "prediction_index"})
    questions = questions.join(gold, on=["id", "gold"], how="left", maintain_order="left")
    questions = questions.drop("gold", "option_count").rename({"gold_index": "gold"})
    answers = answers.join(chosen, on=["id", "prediction"], how="left", maintain_order="left")
    answers = answers.drop("prediction").rename({"prediction_index": "prediction"})
    return questions, answers.join(
        questions.select("id", "gold"), on="id", how="left", maintain_order="left"
    )


def _in_order(
    first_path: Path, first: pl.DataFrame, path: Path, frame: pl.DataFrame
) -> pl.DataFrame:
    """The rows of a file in the order of the first file."""
    for ours, theirs, ours_path, theirs_path in (
        (frame, first, path, first_path),
        (first, frame, first_path, path),
    ):
        missing = theirs.join(ours, on="id", how="anti", maintain_order="left")["id"]
        if len(missing):
            raise InvalidSpec(
                f"{ours_path} lacks {len(missing)} of the {theirs.height} ids of {theirs_path}, "
                f"the first is {shortened(repr(missing[0]))}; give files with the same questions"
            )
    return first.select("id").join(frame, on="id", how="left", maintain_order="left")


def _questions(paths: Sequence[Path], aligned: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The questions: each column comes from the first file that has it."""
    questions = aligned[0].select("id")
    for name in QUESTION_COLUMNS:
        owners = [number for number, frame in enumerate(aligned) if name in frame.columns]
        values = pl.lit(None, CONVERTERS[name][0]).alias(name)
        questions = questions.with_columns(aligned[owners[0]][name] if owners else values)
        for number in owners[1:]:
            row = first_true(~aligned[number][name].eq_missing(questions[name]))
            if row is not None:
                found, wanted = (
                    shortened(repr(_plain(column[row])))
                    for column in (aligned[number][name], questions[name])
                )
                raise InvalidSpec(
                    f"{paths[number]}, id {shortened(repr(questions['id'][row]))}: {name} {found} "
                    f"instead of {wanted} as in {paths[owners[0]]}; give files with the same "
                    "questions"
                )
    return questions


def _plain(value: object) -> object:
    return value.to_list() if isinstance(value, pl.Series) else value


def _check_correct(path: Path, correct: pl.Series, answer: pl.DataFrame, gold: pl.Series) -> None:
    row = first_true(correct != answer["is_correct"].fill_null(value=False))
    if row is not None:
        raise BadRow(
            f"{path}, id {shortened(repr(answer['id'][row]))}: correct is {correct[row]}, but the "
            f"prediction is {answer['prediction'][row]!r} and the gold answer {gold[row]!r}; keep "
            "only one of the columns correct and gold"
        )


def _check_same_form(path: Path, answers: pl.DataFrame, questions: pl.DataFrame) -> None:
    """Refuse predictions that are never gold for any question: they have another form."""
    predicted, gold = answers["prediction"].drop_nulls(), questions["gold"]
    if not predicted.is_in(gold.implode()).any():
        raise InvalidSpec(
            f"{path}: no prediction is the gold answer of any question: predictions are like "
            f"{shortened(repr(predicted[0]))}, gold answers like {shortened(repr(gold[0]))}. Write "
            "both in the same way, or give a column that says whether the prediction is correct"
        )


def _with_gold_of_correct(
    paths: Sequence[Path], questions: pl.DataFrame, answers: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take the first correct prediction of each question as gold, and all correct ones as equal."""
    contradicted = (
        answers.drop_nulls("prediction")
        .group_by("id", "prediction", maintain_order=True)
        .agg(
            pl.col("is_correct").n_unique().alias("count"),
            pl.col("level").filter(pl.col("is_correct")).first().alias("right"),
            pl.col("level").filter(~pl.col("is_correct")).first().alias("wrong"),
        )
        .filter(pl.col("count") > 1)
    )
    for question, prediction, _, right, wrong in contradicted.head(1).iter_rows():
        raise BadRow(
            f"id {shortened(repr(question))}: prediction {shortened(repr(prediction))} is correct "
            f"in {paths[right]} and wrong in {paths[wrong]}"
        )
    gold = (
        answers.filter("is_correct")
        .group_by("id", maintain_order=True)
        .agg(pl.col("prediction").first().alias("gold"))
    )
    questions = questions.drop("gold").join(gold, on="id", how="left", maintain_order="left")
    answers = answers.join(gold, on="id", how="left", maintain_order="left").with_columns(
        pl.when("is_correct").then("gold").otherwise("prediction").alias("prediction")
    )
    return questions, answers.drop("gold")


def _forms(questions: pl.DataFrame, given: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The names of each question's options, in each form: id and options."""
    ids = questions["id"]
    counts = questions["options"].list.len().fill_null(questions["option_count"])
    if counts.null_count() == len(counts):
        yield given.group_by("id").agg(pl.col("answer").unique().sort().alias("options"))
        return
    row = first_true(counts.is_null())
    if row is not None:
        raise BadRow(
            f"id {shortened(repr(ids[row]))}: no options, but other questions have them; give the "
            "options of every question"
        )
    if questions["options"].null_count() == 0:
        yield questions.select("id", "options")
    letters = [[*ascii_uppercase[:count]] for count in counts]
    numbers = [[*map(str, range(count))] for count in counts]
    for names in (letters, numbers):
        yield pl.DataFrame([ids, pl.Series("options", names, pl.List(pl.String()))])


def _numbered(names: pl.DataFrame) -> pl.DataFrame:
    """The index of each option of each question: id, answer and index."""
    indices = pl.int_ranges(pl.col("options").list.len(), dtype=pl.Int32).alias("index")
    return (
        names.with_columns(indices)
        .explode("options", "index")
        .rename({"options": "answer"})
        .unique(["id", "answer"], keep="first", maintain_order=True)
    )
