"""Examples as token ids, split into prompt and options as the harness does."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from prunelake.errors import BadRow, ExampleTooLong, InvalidSpec
from prunelake.spec import SpecialTokens
from prunelake.tasks.rows import Example


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids.

    `prefix` holds the special tokens in front, which are no players in an explanation; `prompt`
    the prompt's own tokens, `texts` how each of them reads; `options` those of each option.
    """

    example: Example
    prefix: tuple[int, ...]
    prompt: tuple[int, ...]
    token_texts: tuple[str, ...]
    options: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Encoder:
    """A tokenizer together with the special tokens that go in front of a prompt.

    `tokenizer` puts there what the tokenizer adds by itself, `bos` always its beginning-of-sequence
    token, `none` nothing.
    """

    tokenizer: PreTrainedTokenizerBase
    special_tokens: SpecialTokens = "tokenizer"

    def prefix_ids(self) -> tuple[int, ...]:
        """The ids of the special tokens in front of a prompt.

        Raises:
            InvalidSpec: `bos` is asked for and the tokenizer has none, or it ends texts with
                special tokens of its own, which would part a prompt from its options.
        """
        if self.special_tokens == "none":
            return ()
        if self.special_tokens == "bos":
            if self.tokenizer.bos_token_id is None:
                raise InvalidSpec("special_tokens bos: this tokenizer has no such token; use none")
            return (self.tokenizer.bos_token_id,)
        bare = self.encode_text("a")
        ids = self.tokenizer.encode("a")
        if ids[len(ids) - len(bare) :] != bare:
            raise InvalidSpec(
                "special_tokens tokenizer: this tokenizer also ends a text with special tokens; "
                "use bos or none"
            )
        return tuple(ids[: len(ids) - len(bare)])

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text without special tokens."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def retokenise(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids of the text that `ids` read as: not always the same ids."""
        return tuple(self.encode_text(self.decode(ids)))

    def decode(self, ids: Sequence[int]) -> str:
        """How token ids read."""
        text = self.tokenizer.decode([*ids], clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def context_ids(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """The prefix and a prompt; where both are empty, the token that starts any text.

        The first token of an option needs something before it; the harness takes BOS or else EOS.
        """
        ids = (*self.prefix_ids(), *prompt)
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        return (self.tokenizer.eos_token_id if start is None else start,)


def encode_examples(
    encoder: Encoder, examples: Sequence[Example], context_length: int
) -> list[EncodedExample]:
    """Tokenise prompt and option together and split where the prompt's own tokens end.

    White space at the end of a prompt goes to its options, as in lm-evaluation-harness.

    Raises:
        BadRow: an option that has no token of its own, so that there is nothing to score.
        ExampleTooLong: a prompt with its longest option exceeds `context_length` tokens.
    """
    prefix = encoder.prefix_ids()
    encoded = []
    for example in examples:
        prompt_text = example.prompt.rstrip()
        gap = example.prompt[len(prompt_text) :]
        prompt = encoder.encode_text(prompt_text)
        options = tuple(
            tuple(encoder.encode_text(prompt_text + gap + option)[len(prompt) :])
            for option in example.options
        )
        for text, option in zip(example.options, options, strict=True):
            if not option:
                raise BadRow(
                    f"example {example.example_id}: behind its prompt the option {text!r} has no "
                    "token of its own; leave the row out"
                )
        length = len(prefix) + len(prompt) + max(len(option) for option in options)
        if length > context_length:
            raise ExampleTooLong(
                f"example {example.example_id} has {length} tokens and the model's context "
                f"{context_length}; leave the row out or take a model with a longer context"
            )
        texts = tuple(encoder.decode([token]) for token in prompt)
        encoded.append(EncodedExample(example, prefix, tuple(prompt), texts, options))
    return encoded
