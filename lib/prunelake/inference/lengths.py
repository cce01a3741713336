"""The lengths of rows: how long a tree of queries grows, and how far rows are padded."""

from dataclasses import dataclass

SHORT_ROW_TOKENS = 32


@dataclass(frozen=True)
class RowLengths:
    """The lengths of rows that suit a device.

    - `max_tree_tokens`: the most tokens of a tree of several queries. A larger tree shares little
      more, and its attention costs more, since every token is multiplied with every other token.
    - `step`: rows are padded to a multiple of it; `short_step` counts for rows of up to
      SHORT_ROW_TOKENS.
    - `padding_share`: a batch may have this share of its own tokens as padding, or of the budget if
      `scales_with_budget`.
    - `free_padding`: a batch may always have this many tokens of padding.
    """

    max_tree_tokens: int
    step: int
    short_step: int
    padding_share: float
    scales_with_budget: bool
    free_padding: int

    def padded(self, count: int) -> int:
        """The length to which a row of `count` tokens is padded."""
        step = self.step if count > SHORT_ROW_TOKENS else self.short_step
        return count + -count % step

    def allowed_padding(self, tokens: int, budget: float) -> float:
        """The most tokens of padding in a batch of `tokens`, all counted once for each level."""
        share = self.padding_share * (budget if self.scales_with_budget else tokens)
        return max(share, self.free_padding)


CPU_LENGTHS = RowLengths(128, 1, 1, padding_share=1 / 16, scales_with_budget=True, free_padding=0)
"""More padding than a sixteenth of a batch costs more than another pass."""

GPU_LENGTHS = RowLengths(
    384, 16, 8, padding_share=0.05, scales_with_budget=False, free_padding=1024
)
"""Kernels of a GPU are chosen for each length, and those with a mask copy it unless its rows are
aligned. Long trees leave little padding. Starting a batch takes as long as 1,024 tokens."""
