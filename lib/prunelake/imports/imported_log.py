"""The log of one model on one task, as all imports read it, and its comparison with another."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from prunelake.analysis.confidence import option_probabilities
from prunelake.errors import shortened
from prunelake.tasks.rows import Example

MASK_FILL = -1e30  # nats; programs write lower numbers, like -3.4e38, in place of -inf


def _encodable(value: Any) -> Any:
    """Reject half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


EncodableText = Annotated[str, AfterValidator(_encodable)]
EncodableValue = Annotated[Any, AfterValidator(_encodable)]


def _log_likelihood(value: float) -> float:
    if not value <= 1e-3:
        raise ValueError(
            f"{value} is no log-likelihood: it should be at most 0 (or rounding, 0.001)"
        )
    return value if value > MASK_FILL else -math.inf


LogProbability = Annotated[float, Field(strict=True), AfterValidator(_log_likelihood)]
"""A log-likelihood in nats: a number, not text. -inf is an impossible event.

Rounding may leave a certain event slightly above 0. A number below `MASK_FILL` becomes -inf.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of a log.

    - `log_likelihoods`: one number or -inf in nats for each option, or None if one is missing. The
      view `excluded` shows samples with -inf or without numbers, and no metric uses them.
    - `option_bytes`: the size of each option in UTF-8.
    - `source_hash`: identifies the row of the dataset.
    - `answer`: the index of the chosen option, if the log names it but has no log-likelihoods.
    """

    example: Example
    log_likelihoods: tuple[float, ...] | None
    option_bytes: tuple[int, ...]
    source_hash: str
    answer: int | None = None

    @property
    def prediction(self) -> int | None:
        """The option of the highest log-likelihood; a tie goes to the first."""
        if self.log_likelihoods is None:
            return self.answer
        return int(np.argmax(self.log_likelihoods))

    @property
    def prediction_norm(self) -> int | None:
        """The option of the highest log-likelihood per byte; a tie goes to the first."""
        if self.log_likelihoods is None:
            return None
        return int(np.argmax(np.divide(self.log_likelihoods, self.option_bytes)))

    @property
    def confidence(self) -> float | None:
        """The softmax over the log-likelihoods, at the predicted option; None if one is -inf."""
        if self.log_likelihoods is None or -math.inf in self.log_likelihoods:
            return None
        return float(option_probabilities(np.array(self.log_likelihoods)).max())


@dataclass(frozen=True, slots=True)
class ImportedLog:
    """The log of one model on one task; fields that the log lacks are empty.

    - `samples`: in the order of the dataset's rows.
    - `tokenizer`: any text that differs between tokenizers.
    - `metadata`: further fields of the log, stored unchanged.
    """

    file: Path
    source: str
    task: str
    split: str
    model: str
    revision: str
    dtype: str
    samples: tuple[Sample, ...]
    tokenizer: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def difference(sample: Sample, expected: Sample) -> str | None:
    """The first field in which a sample is another example than `expected`, and both values.

    None if both are the same example: log-likelihoods and answers may differ.
    """
    values, expected_values = (
        {**asdict(one.example), "row hash": one.source_hash} for one in (sample, expected)
    )
    for name, value in values.items():
        if value != expected_values[name]:
            text, expected_text = repr(value), repr(expected_values[name])
            pairs = enumerate(zip(text, expected_text, strict=False))
            # Prompts may share a long beginning.
            start = next((at for at, (ours, theirs) in pairs if ours != theirs), 0) - 20
            found, wanted = (
                shortened(full if start <= 0 else f"...{full[start:]}", 80)
                for full in (text, expected_text)
            )
            return f"{name.replace('_', ' ')}: {found} instead of {wanted}"
    return None
