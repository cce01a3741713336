"""The public names: the list is pinned, and importing the package loads nothing else."""

import subprocess
import sys

import prunelake as pl


def test_the_public_names_are_these() -> None:
    assert pl.__all__ == [
        "Attribution",
        "Lake",
        "Model",
        "PruneLakeError",
        "Run",
        "check_gate",
        "compare",
        "load",
        "open_lake",
        "sweep",
    ]
    assert {*pl.__all__} <= {*dir(pl)}
    for name in pl.__all__:
        assert getattr(pl, name).__name__ == name
        assert getattr(pl, name).__doc__


def test_the_package_and_its_commands_load_little_and_reading_loads_no_torch() -> None:
    code = (
        "import sys, prunelake as pl\n"
        "heavy = {'torch', 'transformers', 'captum', 'prefect', 'polars', 'duckdb', 'pydantic'}\n"
        "print(sorted(heavy & {*sys.modules}))\n"
        "import prunelake.cli.app\n"
        "print(sorted((heavy | {'pydantic_settings', 'rich'}) & {*sys.modules}))\n"
        "pl.open_lake, pl.Lake, pl.Run, pl.Attribution\n"
        "import prunelake.public.chart\n"
        "print(sorted({'torch', 'transformers', 'captum', 'prefect', 'fastapi'} & {*sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.splitlines() == ["[]", "['pydantic']", "[]"], answer.stderr
