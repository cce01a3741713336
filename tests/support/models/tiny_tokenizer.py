"""A tokenizer of single characters and a few merges: every split can be worked out by hand."""

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

MERGES = [("a", "b"), (" ", "y"), (" y", "e")]
SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2}
TOKENS = [*"\n " + string.ascii_letters + string.digits + ".,:?!é", *map("".join, MERGES)]
VOCABULARY = SPECIAL | {token: len(SPECIAL) + n for n, token in enumerate(TOKENS)}


def tiny_tokenizer(template: str = "$A", bos: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer that lays special tokens around a text as `template` says."""
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=MERGES, unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[*SPECIAL.items()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>" if bos else None,
        eos_token="</s>",
    )


def ids(*tokens: str) -> tuple[int, ...]:
    """The ids of tokens."""
    return tuple(VOCABULARY[token] for token in tokens)
