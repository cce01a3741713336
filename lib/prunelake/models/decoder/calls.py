"""The calls of blocks and parts: their hidden states, their outputs, and replacements of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Forward = Callable[..., Any]


@dataclass(frozen=True)
class OutputForm:
    """The form of a part's output.

    - `extras`: the number of values behind the output in a tuple; None for a plain tensor.
    - `width`: the width of the output.
    - `can_skip`: it reads and writes [rows, tokens, width], and nothing else that is needed.
    - `is_list`: the values are a list in place of a tuple.
    """

    extras: int | None
    width: int
    can_skip: bool
    is_list: bool = False

    def wrap(self, output: Tensor) -> Any:
        """An output in this form, with None for each further value."""
        return output if self.extras is None else (output, *[None] * self.extras)


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states among the arguments of a block or of its parts."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def first_value(output: Any) -> Tensor:
    """The output of a part or block without the values behind it."""
    first: Tensor = output[0] if isinstance(output, tuple | list) else output
    return first


def with_first_value(output: Any, first: Tensor) -> Any:
    """An output in the same form, with another first value."""
    if isinstance(output, tuple | list):
        return type(output)([first, *output[1:]])
    return first


@contextmanager
def replaced_forward(module: nn.Module, wrap: Callable[[Forward], Forward]) -> Iterator[None]:
    """Replace a module's `forward` by `wrap(forward)`, and restore it on exit."""
    # Tools like accelerate also set `forward` on the instance, so restore theirs.
    before = module.__dict__.get("forward")
    module.forward = wrap(module.forward)
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
