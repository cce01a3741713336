"""The revisions of saved models in folders."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prunelake.models import references
from prunelake.settings import Settings
from prunelake.watch import revisions
from prunelake.watch.decision import EvaluationState
from tests.support.sweeps.fake_launcher import FakeLauncher, run_round, saved_model, watchlist

PAST = datetime.now(UTC) - timedelta(days=3)


def test_a_revision_equals_the_revision_of_a_sweep(tmp_path: Path, tiny_folder: Path) -> None:
    from prunelake.models.sources import resolve_model

    (entry,) = watchlist(tmp_path, {"model": str(tiny_folder)}).entries
    (revision,) = revisions.find_revisions(entry, tmp_path / "cache")
    assert isinstance(revision, revisions.ModelRevision)
    assert revision.revision == resolve_model(str(tiny_folder), tmp_path / "cache").revision
    assert revision.weight_bytes == (tiny_folder / "model.safetensors").stat().st_size


def test_weights_are_hashed_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved_model(tmp_path / "m")
    for file in folder.iterdir():
        os.utime(file, (PAST.timestamp(), PAST.timestamp()))
    (entry,) = watchlist(tmp_path, {"model": "m"}).entries
    (first,) = revisions.find_revisions(entry, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(references, "hash_files", lambda _: pytest.fail("hashed again"))
        assert list(revisions.find_revisions(entry, tmp_path / "cache")) == [first]
    (folder / "model.safetensors").write_text("another")
    assert list(revisions.find_revisions(entry, tmp_path / "cache")) != [first]


def test_an_incomplete_checkpoint_is_skipped(tmp_path: Path, settings: Settings) -> None:
    saved_model(tmp_path / "models" / "m")
    listed = watchlist(tmp_path, {"folder": "models"}, settle_s=60)
    worker = FakeLauncher()
    (line,) = run_round(listed, settings, worker)
    assert line.state is EvaluationState.skipped
    assert "a round evaluates it once it is 60 s old" in line.detail
    (tmp_path / "models" / "m" / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
    )
    (line,) = run_round(watchlist(tmp_path, {"folder": "models"}), settings, worker)
    assert "model-2.safetensors, which does not exist" in line.detail
    assert worker.started == []
