"""Commands of Prefect in this process: a process of its own takes seconds for its imports."""

import gc
import warnings
from collections.abc import Sequence

from prefect.testing.cli import CycloptsCliRunner


def run_prefect(arguments: Sequence[str]) -> str:
    """Run `prefect` with these arguments on the server at PREFECT_API_URL; return its output."""
    with warnings.catch_warnings():
        # A command leaves its sockets open, because the end of its process would close them.
        warnings.simplefilter("ignore", ResourceWarning)
        done = CycloptsCliRunner().invoke([*arguments])
        gc.collect()
    assert done.exit_code == 0, f"prefect {' '.join(arguments)}\n{done.output}"
    return done.stdout
