"""Imports without pauses of the garbage collector."""

import gc
import sys

import pytest

from prunelake.quick_imports import quick_imports


def test_the_collector_rests_during_imports_and_works_again_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # the objects of other tests
    with quick_imports():
        assert not gc.isenabled()
        with quick_imports():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), quick_imports():
        raise ImportError("no such package")
    assert gc.isenabled()


def test_the_collector_goes_on_if_the_packages_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", sys)
    with quick_imports():
        assert gc.isenabled()
