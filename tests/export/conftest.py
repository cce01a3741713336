"""A model in a new folder, for tests of `prunelake export`."""

from pathlib import Path

import pytest

from prunelake.models.sources import resolve_model
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer


@pytest.fixture
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PRUNELAKE_LAKE", "PRUNELAKE_DTYPE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def revision(in_a_new_folder: Path) -> str:
    """The revision of a model in the folder `tiny`; its context is long enough for calibration."""
    tiny_model("llama", max_position_embeddings=2048).save_pretrained(in_a_new_folder / "tiny")
    tiny_tokenizer().save_pretrained(in_a_new_folder / "tiny")
    return resolve_model("tiny", in_a_new_folder).revision
