"""The units of work that the processes of `make test` take."""

from tests.support.paths import ROOT
from tests.support.schedule import LONGEST_FIRST


def test_every_unit_names_test_files_that_exist() -> None:
    for unit in LONGEST_FIRST:
        path = ROOT / unit.path
        assert path.is_file() or list(path.glob("test_*.py")), unit.path
        assert path.is_file() or unit.why_together


def test_no_unit_hides_another_unit() -> None:
    for rank, unit in enumerate(LONGEST_FIRST):
        assert not [one.path for one in LONGEST_FIRST[:rank] if unit.path.startswith(one.path)]
