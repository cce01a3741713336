"""Short and long forms of tests that repeat something: kills, fuzzing, races.

`make test` runs the short form. `make endurance` sets PRUNELAKE_ENDURANCE and runs the long form,
together with the tests marked `endurance`.
"""

import os

IS_ENDURANCE = bool(os.environ.get("PRUNELAKE_ENDURANCE"))


def repeats(short: int, long: int) -> int:
    """The number of repetitions: `short` in `make test`, `long` in `make endurance`."""
    return long if IS_ENDURANCE else short
