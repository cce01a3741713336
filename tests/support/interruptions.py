"""Looking at, or ending, work on a lake before each file appears or goes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Interrupted(BaseException):
    """What ends work in the middle."""


@contextmanager
def before_every_file_change(do: Callable[[int], None]) -> Iterator[None]:
    """Call `do` with a count before each file appears or goes."""
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
