"""The tokenizer of a model, trained again on the bundled tasks with a small vocabulary."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from prunelake.spec import Rows
from prunelake.tasks.catalogue import CATALOGUE_FOLDER, get_task
from prunelake.tasks.rows import load_examples

VOCABULARY = 4000
"""The least round number at which the questions have about as many tokens as in SmolLM2."""


def small_tokenizer(model: Path) -> PreTrainedTokenizerBase:
    """A tokenizer of the same kind and with the same special tokens, but of few words.

    Reading 49,000 words, as each sweep does, and scoring them takes longer than the layers of a
    tiny model.
    """
    texts = [(CATALOGUE_FOLDER / "calibration.txt").read_text()]
    for task in ("everyday_knowledge", "opinions"):
        for example in load_examples(get_task(task), Rows(), None):
            texts += [f"{example.prompt} {option}" for option in example.options]
    trained: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model).train_new_from_iterator(
        texts, VOCABULARY, show_progress=False
    )
    return trained
