"""Observe or interrupt work on a lake before each change of a file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Interrupted(BaseException):
    """Interrupts work at a step; no handler of the library catches it."""


@contextmanager
def before_every_file_change(do: Callable[[int], None]) -> Iterator[None]:
    """Call `do` with the number of the step before each file is created, replaced or deleted."""
    steps = 0
    with pytest.MonkeyPatch.context() as patch:
        for call in (os.replace, os.rename, os.unlink):

            def counted(*arguments: Any, call: Callable[..., None] = call) -> None:
                nonlocal steps
                steps += 1
                do(steps)
                call(*arguments)

            patch.setattr(os, call.__name__, counted)
        yield
