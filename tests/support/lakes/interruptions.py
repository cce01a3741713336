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
        for call in (os.link, os.replace, os.rename, os.unlink):

            def counted(*arguments: Any, call: Callable[..., None] = call, **named: Any) -> None:
                nonlocal steps
                steps += 1
                do(steps)
                call(*arguments, **named)

            patch.setattr(os, call.__name__, counted)
        yield


def stop_at(last: int) -> Callable[[int], None]:
    """A function for `before_every_file_change` that interrupts at a step."""

    def stop(step: int) -> None:
        if step == last:
            raise Interrupted

    return stop
