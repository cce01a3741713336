"""Models that tests of loading share."""

from pathlib import Path

import pytest

from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama and its tokenizer, saved by transformers."""
    folder = tmp_path / "tiny"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
