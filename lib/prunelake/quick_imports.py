"""Import large packages without pauses of the garbage collector."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and transformers within this block in four fifths of the time.

        with quick_imports():
            from prunelake.sweeps.run import run_sweep

    Modules are a million objects that stay. The collector would look at all of them again and
    again while they load. Afterwards it ignores them.
    """
    if "transformers" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
