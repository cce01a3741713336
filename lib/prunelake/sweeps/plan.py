"""The plan of a sweep: its weights, examples, levels and identity.

Errors in a spec are found here, before a model is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prunelake.errors import InvalidSpec
from prunelake.identity import RunIdentity, content_hash
from prunelake.models.decoder.text_model import context_length
from prunelake.models.files.checkpoints import read_config
from prunelake.models.levels import resolve_levels
from prunelake.models.loading import ModelSource, load_tokenizer
from prunelake.models.sources import resolve_model
from prunelake.schema.table import FORMAT_VERSION
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Strategy, SweepSpec, Texts
from prunelake.tasks.calibration_text import calibration_text
from prunelake.tasks.catalogue import find_task
from prunelake.tasks.encoding import EncodedExample, Encoder, encode_examples
from prunelake.tasks.harness import HarnessTask
from prunelake.tasks.rows import data_hash, read_records, select_examples
from prunelake.tasks.search_split import draw_search_examples

CHARACTERS_PER_TOKEN = 10
"""Characters of calibration text read for each token; English has 4 to 5 for a token."""

LOSS_WINDOW_DIVISOR = 5
"""`loss` reads its text for every candidate of every step, so it reads only 1/5 of each window."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep knows before its model is loaded.

    `spec` is the user's spec, with the number of rows of the split.
    `calibration_windows` are token ids of calibration text, if the strategy reads text.
    `search_examples` are the examples that a search reads; the sweep does not report them. The
    levels and the number of rows of `explanation` are filled in.
    """

    spec: SweepSpec
    identity: RunIdentity
    source: ModelSource
    split: str
    examples: tuple[EncodedExample, ...]
    calibration_windows: tuple[tuple[int, ...], ...]
    search_examples: tuple[EncodedExample, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the sweep, ascending, with 0."""
        return self.identity.levels

    @property
    def explanation(self) -> Explanation | None:
        """The settings of explanations; None if the sweep only predicts."""
        return self.identity.explain

    @property
    def texts(self) -> Texts | None:
        """The texts to measure; None for none."""
        return self.identity.texts

    @property
    def explained_examples(self) -> tuple[EncodedExample, ...]:
        """The explained examples: the first `explanation.rows` examples."""
        return self.examples[: self.explanation.rows] if self.explanation else ()

    def explanation_of(self, position: int) -> Explanation | None:
        """The explanation of the example at a position, with its own levels.

        None if the example is not explained.
        """
        explanation = self.explanation
        if explanation is None or position >= len(self.explained_examples):
            return None
        levels = tuple(
            level
            for level in explanation.levels or self.levels
            if explanation.rows_at(level, len(self.examples)) > position
        )
        return explanation.model_copy(update={"levels": levels})


def plan_sweep(spec: SweepSpec, settings: Settings) -> SweepPlan:
    """Resolve a spec: find the weights, load and tokenise the rows, settle levels and identity.

    Raises:
        PruneLakeError: the spec, its model or its data cannot be used.
    """
    task = find_task(spec.task)
    source = resolve_model(
        spec.reference,
        settings.cache.expanduser(),
        spec.strategy.unit,
        trust_remote_code=spec.trust_remote_code,
        needs_tokenizer=True,
    )
    unit = spec.strategy.unit
    levels = resolve_levels(spec.levels, source.layer_count, unit, source.deepest_level)
    origin, records = read_records(task, settings.data)
    examples = select_examples(task, spec.rows, origin, records)
    encoder = Encoder(load_tokenizer(source), spec.special_tokens)
    config = read_config(source.folder, bool(source.remote_code)).get_text_config()
    context = context_length(config)
    encoded = encode_examples(encoder, examples, context)
    explanation = _resolve_explanation(spec.explain, levels, len(examples), config.vocab_size)
    _check_explained(explanation, encoded)
    _check_texts(spec.texts, encoded, context)
    strategy = spec.strategy
    windows = calibration_windows(strategy, spec.calibration, encoder, settings.data, context)
    searched = (
        draw_search_examples(task, strategy.search_rows, examples, settings.data)
        if strategy.reads_rows
        else []
    )
    identity = RunIdentity(
        format_version=FORMAT_VERSION,
        revision=source.revision,
        task=task.name,
        data_hash=data_hash(examples),
        levels=levels,
        strategy=strategy,
        # The identity has the text, not its path: the same text gives the same run.
        calibration_hash=content_hash(windows) if strategy.reads_text else None,
        explain=explanation,
        dtype=spec.dtype,
        special_tokens=spec.special_tokens,
        search_hash=data_hash(searched) if strategy.reads_rows else None,
        sequential=spec.sequential,
        remote_code=source.remote_code or None,
        harness=task.prompts if isinstance(task, HarnessTask) else None,
        texts=spec.texts,
    )
    questions = encode_examples(encoder, searched, context)
    if any(question.beginnings for question in questions):
        raise InvalidSpec(
            f"strategy {strategy.label} reads rows of the task, but each option in the rows of "
            f"{task.name} has its own prompt; take another strategy"
        )
    return SweepPlan(
        spec.model_copy(update={"split_rows": len(records)}),
        identity,
        source,
        task.split,
        tuple(encoded),
        windows,
        tuple(questions),
    )


def _resolve_explanation(
    explanation: Explanation | None,
    levels: tuple[int, ...],
    example_count: int,
    vocabulary: int,
) -> Explanation | None:
    if explanation is None:
        return None
    own = levels if explanation.levels is None else tuple(sorted({0, *explanation.levels}))
    if unknown := set(own) - set(levels):
        raise InvalidSpec(
            f"explain.levels {sorted(unknown)} are not among the sweep's levels {list(levels)}"
        )
    fewer = dict(explanation.level_rows)
    if unknown := set(fewer) - set(own) | {0} & set(fewer):
        raise InvalidSpec(
            f"explain.level_rows {sorted(unknown)} are not among the explained levels above 0: "
            f"{sorted({*own} - {0})}"
        )
    rows = example_count if explanation.rows is None else explanation.rows
    if rows > example_count:
        raise InvalidSpec(f"explain.rows {rows}: the sweep has {example_count} examples")
    if explanation.baseline_token >= vocabulary:
        raise InvalidSpec(
            f"explain.baseline_token {explanation.baseline_token}: the model's tokens go from 0 to "
            f"{vocabulary - 1}"
        )
    return explanation.model_copy(update={"levels": own, "rows": rows})


def _check_explained(explanation: Explanation | None, examples: Sequence[EncodedExample]) -> None:
    """Refuse to explain a prompt without tokens, and options that begin with unscored tokens."""
    for encoded in examples[: (explanation.rows or 0) if explanation else 0]:
        if encoded.beginnings:
            raise InvalidSpec(
                f"example {encoded.example.example_id} has its own prompt for each option, so its "
                "options share no prompt tokens to explain; take --methods none (explain: null in "
                "a spec file)"
            )
        if not encoded.prompt:
            raise InvalidSpec(
                f"example {encoded.example.example_id} has an empty prompt, so there is no token "
                "to explain; take --methods none (explain: null in a spec file)"
            )


def _check_texts(
    texts: Texts | None, examples: Sequence[EncodedExample], context_length: int
) -> None:
    """Refuse more texts than examples, and prompts that cannot be continued."""
    if texts is None:
        return
    if texts.rows > len(examples):
        raise InvalidSpec(
            f"--text-rows {texts.rows} (texts.rows in a spec file): the sweep has {len(examples)} "
            "examples"
        )
    for encoded in examples[: texts.rows]:
        name = encoded.example.example_id
        if encoded.beginnings or not encoded.prompt:
            reason = "its own prompt for each option" if encoded.beginnings else "an empty prompt"
            raise InvalidSpec(
                f"example {name} has {reason}, so there is no text to continue; leave out "
                "--text-rows (texts in a spec file)"
            )
        length = len(encoded.prefix) + len(encoded.prompt)
        if length + texts.new_tokens > context_length:
            raise InvalidSpec(
                f"example {name} has {length} tokens, and {texts.new_tokens} new tokens exceed the "
                f"model's context of {context_length}; take at most --text-tokens "
                f"{context_length - length}, or fewer --text-rows"
            )


def calibration_windows(
    strategy: Strategy,
    calibration: Calibration,
    encoder: Encoder,
    data_folder: Path | None,
    context_length: int,
) -> tuple[tuple[int, ...], ...]:
    """The windows of calibration text as token ids, each behind the special tokens of prompts.

    Empty if the strategy reads no text; for `loss`, only the beginning of each window.

    Raises:
        InvalidSpec: windows are longer than the model's context, or the text is too short.
        DatasetNotFound, BadRow: as `calibration_text`.
    """
    if not strategy.reads_text:
        return ()
    count, size = calibration.windows, calibration.window_tokens
    prefix = encoder.prefix_ids()
    if len(prefix) + size > context_length:
        raise InvalidSpec(
            f"calibration.window_tokens {size}: the model's context has {context_length} tokens, "
            f"and {len(prefix)} of them are special tokens; take at most "
            f"{context_length - len(prefix)}"
        )
    text = calibration_text(calibration.source, data_folder, count * size * CHARACTERS_PER_TOKEN)
    ids = encoder.encode_text(text)
    if len(ids) < count * size:
        raise InvalidSpec(
            f"calibration text {calibration.source} has {len(ids)} tokens, and {count} "
            f"windows of {size} need {count * size}; take fewer windows or a longer text"
        )
    windows = tuple((*prefix, *ids[n * size : (n + 1) * size]) for n in range(count))
    if strategy.name == "loss":
        windows = tuple(window[: max(2, len(window) // LOSS_WINDOW_DIVISOR)] for window in windows)
    return windows
