"""An explanation of one answer: a score for each token of the prompt."""

from dataclasses import dataclass
from html import escape

import polars as pl

COLOURS = {True: "0, 114, 178", False: "213, 94, 0"}
"""Blue for tokens that speak for the option, vermilion for tokens against it. All charts use these
colours, which colour-blind readers can tell apart."""


@dataclass(frozen=True)
class Attribution:
    """How much each token of a prompt moves the log-likelihood of an option.

        attribution = model.attribute("The capital of France is", " Paris")
        attribution.to_polars()

    - `tokens`: the texts of the prompt's tokens.
    - `scores`: the effect of each token in nats; a positive score speaks for the option.
    - `log_likelihood`: the log-likelihood of the option after the whole prompt, in nats.

    A notebook shows the prompt with coloured tokens: the deeper the colour, the larger the effect.
    """

    option: str
    method: str
    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    log_likelihood: float

    def to_polars(self) -> pl.DataFrame:
        """The columns `token` and `score`, in the order of the prompt."""
        return pl.DataFrame({"token": self.tokens, "score": self.scores})

    def _repr_html_(self) -> str:
        largest = max(map(abs, self.scores))
        marks = "".join(
            _mark(token, score, abs(score) / largest if largest else 0.0)
            for token, score in zip(self.tokens, self.scores, strict=True)
        )
        return (
            f'<p style="white-space: pre-wrap; line-height: 1.9">{marks}'
            f" <b>{escape(self.option)}</b> ({self.log_likelihood:.2f} nats)</p>"
        )


def _mark(token: str, score: float, share: float) -> str:
    """A token in the colour of its score; a tooltip shows the score."""
    colour = COLOURS[score > 0]
    line = "solid" if score > 0 else "dashed"
    return (
        f'<span title="{score:+.3f}" style="background: rgba({colour}, {share / 2:.2f}); '
        f'border-bottom: 2px {line} rgba({colour}, {share:.2f})">{escape(token)}</span>'
    )
