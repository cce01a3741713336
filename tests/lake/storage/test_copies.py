"""Local copies are whole, and a file is synced before it gets its name."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from prunelake.lake.storage import location


@pytest.mark.parametrize("size", [0, 1, 99, 100, 1234])
def test_a_copy_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(location, "COPIED_BYTES", 100)
    content = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "target").write_bytes(b"older" * 1000)
    location.copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content


def test_a_file_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, path = tmp_path / "new", tmp_path / "path"
    file.write_bytes(b"rows")
    inode = file.stat().st_ino
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    replace = os.replace

    def checked(*paths: Any) -> None:
        assert synced == [inode]
        replace(*paths)

    monkeypatch.setattr(os, "replace", checked)
    location.install(file, path, {})
    assert path.stat().st_ino == inode
