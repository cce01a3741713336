"""Examples as token ids, split into prompt and options as lm-evaluation-harness does."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from prunelake.errors import BadRow, ExampleTooLong, InvalidSpec
from prunelake.spec import SpecialTokens
from prunelake.tasks.harness_rows import shared_length
from prunelake.tasks.rows import Example


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids.

    - `prefix`: the special tokens in front of the prompt; explanations do not score them.
    - `prompt`: the tokens of the prompt itself.
    - `token_texts`: the text of each token of `prompt`.
    - `options`: the scored tokens of each option.
    - `beginnings`: the tokens of each option in front of its scored tokens; empty if whole options
      are scored.
    """

    example: Example
    prefix: tuple[int, ...]
    prompt: tuple[int, ...]
    token_texts: tuple[str, ...]
    options: tuple[tuple[int, ...], ...]
    beginnings: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, and the choice of special tokens in front of a prompt.

    `special_tokens` is `tokenizer` for the special tokens that the tokenizer adds itself, `bos` for
    its beginning-of-sequence token, or `none`.
    """

    tokenizer: PreTrainedTokenizerBase
    special_tokens: SpecialTokens = "tokenizer"

    def prefix_ids(self) -> tuple[int, ...]:
        """The ids of the special tokens in front of a prompt.

        Raises:
            InvalidSpec: `bos`, but the tokenizer has no such token; or `tokenizer`, but the
                tokenizer also appends special tokens, which would separate prompt and option.
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
        """The token ids of a text, without special tokens."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def retokenise(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The token ids of the text that `ids` decode to; they may differ from `ids`."""
        return tuple(self.encode_text(self.decode(ids)))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        text = self.tokenizer.decode([*ids], clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def encode_pair(self, context: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The token ids of a context and of the text behind it, tokenised together.

        The split comes after as many tokens as the context has alone. White space at the end of the
        context belongs to the text.
        """
        stripped = context.rstrip()
        front = self.encode_text(stripped)
        whole = self.encode_text(stripped + context[len(stripped) :] + text)
        return tuple(front), tuple(whole[len(front) :])

    def context_ids(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """The prefix and the prompt; if both are empty, the token that begins a text.

        A model needs a token before the first token of an option. As in lm-evaluation-harness, this
        is the beginning-of-sequence token or, if the tokenizer has none, the end-of-sequence token.
        """
        ids = (*self.prefix_ids(), *prompt)
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        return (self.tokenizer.eos_token_id if start is None else start,)


def encode_examples(
    encoder: Encoder, examples: Sequence[Example], context_length: int
) -> list[EncodedExample]:
    """The examples as token ids: prompt and option tokenised together, split after the prompt.

    The split comes after as many tokens as the prompt has alone. White space at the end of a prompt
    belongs to its options. lm-evaluation-harness has the same two rules.

    Raises:
        BadRow: an option has no token of its own to score.
        ExampleTooLong: a prompt with its longest option exceeds `context_length` tokens.
    """
    special = encoder.prefix_ids()
    encoded = []
    for example in examples:
        end = 0 if example.ending is None else len(example.ending)
        pairs = [
            encoder.encode_pair(example.prompt + option[: len(option) - end], option[-end:])
            if end
            else encoder.encode_pair(example.prompt, option)
            for option in example.options
        ]
        contexts, options = zip(*pairs, strict=True)
        prompt = contexts[0][: shared_length(contexts)]
        beginnings = tuple(context[len(prompt) :] for context in contexts) if end else ()
        prefix = special if prompt else encoder.context_ids(())
        for text, option in zip(example.options, options, strict=True):
            if not option:
                raise BadRow(
                    f"example {example.example_id}: after its prompt the option {text!r} has no "
                    "token of its own; leave the row out"
                )
        length = len(prefix) + max(len(context) + len(option) for context, option in pairs)
        if length > context_length:
            raise ExampleTooLong(
                f"example {example.example_id} has {length} tokens, but the model's context has "
                f"{context_length}; leave the row out, or take a model with a longer context"
            )
        texts = tuple(encoder.decode([token]) for token in prompt)
        encoded.append(EncodedExample(example, prefix, prompt, texts, options, beginnings))
    return encoded
