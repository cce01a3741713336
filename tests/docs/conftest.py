from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.support.models.tiny_models import tiny_model


@pytest.fixture(scope="session")
def deep_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with ten layers, whose context holds the calibration text."""
    folder = tmp_path_factory.mktemp("deep")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.save_pretrained(folder)
    changes = {"num_hidden_layers": 10, "max_position_embeddings": 512}
    tiny_model("llama", vocab_size=len(tokenizer), **changes).save_pretrained(folder)
    return str(folder)
