"""A byte-level tokenizer, as GPT-2 has one: every byte is a token, and a few pairs are merged."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MERGES = [("Ġ", "y"), ("Ġy", "e"), ("i", "s")]
SPECIAL = ("<s>", "</s>")
SIZE = 256 + len(MERGES) + len(SPECIAL)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; its vocabulary has `SIZE` tokens."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
