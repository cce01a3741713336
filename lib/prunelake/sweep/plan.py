"""The plan of a sweep: its weights, examples, levels and identity.

Errors in a spec are found here, before a model is loaded.
"""

from dataclasses import dataclass
from pathlib import Path

from prunelake.errors import InvalidSpec, UnknownLayer
from prunelake.models.loading import ModelSource, load_tokenizer, read_config
from prunelake.models.sources import resolve_model
from prunelake.schema.table import FORMAT_VERSION
from prunelake.settings import Settings
from prunelake.spec import UNIT_NAMES, Explanation, RunIdentity, SweepSpec, content_hash
from prunelake.tasks import calibration_text, catalogue
from prunelake.tasks import rows as tasks_rows
from prunelake.tasks.encoding import EncodedExample, Encoder, encode_examples
from prunelake.tasks.search_split import draw_search_examples

CHARACTERS_PER_TOKEN = 10
"""Characters of calibration text read for each token; English has 4 to 5 for a token."""

LOSS_WINDOW_DIVISOR = 5
"""`loss` reads its text for every candidate of every step, so it takes 1/5 of each window."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep knows before its model is loaded.

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
    def explained_examples(self) -> tuple[EncodedExample, ...]:
        """The explained examples: the first ones."""
        return self.examples[: self.explanation.rows] if self.explanation else ()


def plan_sweep(spec: SweepSpec, settings: Settings) -> SweepPlan:
    """Resolve a spec: find the weights, load and tokenise the rows, settle levels and identity.

    Raises:
        PruneLakeError: the spec, its model or its data cannot be used.
    """
    task = catalogue.get_task(spec.task)
    source = resolve_model(spec.model, settings.cache.expanduser(), spec.strategy.unit)
    levels = _resolve_levels(spec, source.layer_count)
    examples = tasks_rows.load_examples(task, spec.rows, settings.data)
    encoder = Encoder(load_tokenizer(source), spec.special_tokens)
    config = read_config(source.folder).get_text_config()
    context = config.max_position_embeddings
    encoded = encode_examples(encoder, examples, context)
    strategy = spec.strategy
    windows = (
        _calibration_windows(spec, encoder, settings.data, context) if strategy.reads_text else ()
    )
    if strategy.name == "loss":
        windows = tuple(window[: max(2, len(window) // LOSS_WINDOW_DIVISOR)] for window in windows)
    searched = (
        draw_search_examples(task, strategy.search_rows, examples, settings.data)
        if strategy.reads_rows
        else []
    )
    identity = RunIdentity(
        format_version=FORMAT_VERSION,
        revision=source.revision,
        task=task.name,
        data_hash=tasks_rows.data_hash(examples),
        levels=levels,
        strategy=strategy,
        # The text counts, not its path: the same text gives the same run.
        calibration_hash=content_hash(windows) if strategy.reads_text else None,
        explain=_resolve_explanation(spec.explain, levels, len(examples), config.vocab_size),
        dtype=spec.dtype,
        special_tokens=spec.special_tokens,
        search_hash=tasks_rows.data_hash(searched) if strategy.reads_rows else None,
    )
    questions = encode_examples(encoder, searched, context)
    return SweepPlan(spec, identity, source, task.split, tuple(encoded), windows, tuple(questions))


def _resolve_levels(spec: SweepSpec, layer_count: int) -> tuple[int, ...]:
    levels = spec.levels
    if levels is None:
        return tuple(range(layer_count // 2 + 1))
    if levels[-1] > layer_count:
        raise UnknownLayer(
            f"level {levels[-1]} is beyond the model's {layer_count} "
            f"{UNIT_NAMES[spec.strategy.unit]}; levels go from 0 to {layer_count}"
        )
    return levels


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
    rows = example_count if explanation.rows is None else explanation.rows
    if rows > example_count:
        raise InvalidSpec(f"explain.rows {rows}: the sweep has {example_count} examples")
    if explanation.baseline_token >= vocabulary:
        raise InvalidSpec(
            f"explain.baseline_token {explanation.baseline_token}: the model's tokens go from 0 to "
            f"{vocabulary - 1}"
        )
    return explanation.model_copy(update={"levels": own, "rows": rows})


def _calibration_windows(
    spec: SweepSpec, encoder: Encoder, data: Path | None, context: int
) -> tuple[tuple[int, ...], ...]:
    """Windows of calibration text, each behind the special tokens of prompts."""
    count, size = spec.calibration.windows, spec.calibration.window_tokens
    prefix = encoder.prefix_ids()
    if len(prefix) + size > context:
        raise InvalidSpec(
            f"calibration.window_tokens {size}: the model's context has {context} tokens, "
            f"{len(prefix)} of them special ones; take at most {context - len(prefix)}"
        )
    text = calibration_text.calibration_text(
        spec.calibration.source, data, count * size * CHARACTERS_PER_TOKEN
    )
    ids = encoder.encode_text(text)
    if len(ids) < count * size:
        raise InvalidSpec(
            f"calibration text {spec.calibration.source} has {len(ids)} tokens, and {count} "
            f"windows of {size} need {count * size}; take fewer windows or a longer text"
        )
    return tuple((*prefix, *ids[n * size : (n + 1) * size]) for n in range(count))
