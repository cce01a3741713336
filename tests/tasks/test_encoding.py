from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from prunelake.errors import BadRow, ExampleTooLong, InvalidSpec
from prunelake.tasks.encoding import EncodedExample, Encoder, encode_examples
from prunelake.tasks.rows import Example
from tests.support.models.tiny_tokenizer import ids, tiny_tokenizer


def encoded(prompt: str, *options: str, encoder: Encoder | None = None) -> EncodedExample:
    encoder = encoder or Encoder(tiny_tokenizer())
    (example,) = encode_examples(encoder, [Example("test:3", prompt, options, 0)], 64)
    return example


def harness(
    tokenizer: PreTrainedTokenizerBase, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """The rule of lm-evaluation-harness, from its description."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    prompt = tokenizer(stripped, add_special_tokens=False)["input_ids"]
    whole = tokenizer(stripped + continuation, add_special_tokens=False)["input_ids"]
    return prompt, whole[len(prompt) :]


def test_options_begin_after_the_tokens_of_the_prompt() -> None:
    example = encoded("Is it", " yes", " no")
    assert example.prompt == ids("I", "s", " ", "i", "t")
    assert example.options == (ids(" ye", "s"), ids(" ", "n", "o"))
    assert example.prefix == ()


@pytest.mark.parametrize("space", [" ", "  ", "\n", " \n"])
def test_white_space_after_the_prompt_goes_to_the_options(space: str) -> None:
    example = encoded("Is it" + space, "no")
    assert example.prompt == ids("I", "s", " ", "i", "t")
    assert example.options == (ids(*space, "n", "o"),)


def test_the_split_is_at_the_number_of_tokens_of_the_prompt_alone() -> None:
    # "ca" alone has two tokens, and "cabb" is c, ab, b: the option begins after two tokens.
    assert encoded("ca", "bb").options == (ids("b"),)


def test_an_option_without_a_token_of_its_own_is_refused() -> None:
    with pytest.raises(BadRow, match=r"test:3: after its prompt the option 'b' has no token"):
        encoded("ca", "b")


@pytest.mark.parametrize(
    ("template", "mode", "prefix"),
    [
        ("$A", "tokenizer", ()),
        ("<s> $A", "tokenizer", ids("<s>")),
        ("<s> <s> $A", "tokenizer", ids("<s>", "<s>")),
        ("$A", "bos", ids("<s>")),
        ("<s> $A", "bos", ids("<s>")),
        ("<s> $A </s>", "bos", ids("<s>")),
        ("<s> $A", "none", ()),
        ("<s> $A </s>", "none", ()),
    ],
)
def test_special_tokens_are_in_the_prefix_only(
    template: str, mode: str, prefix: tuple[int, ...]
) -> None:
    encoder = Encoder(tiny_tokenizer(template), mode)  # type: ignore[arg-type]  # a valid mode
    example = encoded("ab", " c", encoder=encoder)
    assert (example.prefix, example.prompt, example.options) == (
        prefix,
        ids("ab"),
        (ids(" ", "c"),),
    )


def test_a_tokenizer_that_appends_special_tokens_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="also ends a text with special tokens; use bos or none"):
        Encoder(tiny_tokenizer("<s> $A </s>")).prefix_ids()


def test_bos_needs_a_tokenizer_that_has_it() -> None:
    with pytest.raises(InvalidSpec, match="special_tokens bos: this tokenizer has no such token"):
        Encoder(tiny_tokenizer(bos=False), "bos").prefix_ids()


def test_an_example_must_fit_with_its_prefix_and_longest_option() -> None:
    encoder = Encoder(tiny_tokenizer(), "bos")
    examples = [Example("dev:7", "abcd", (" x", " xyz"), 0)]  # 1 + 3 + 4 tokens
    assert encode_examples(encoder, examples, 8)
    with pytest.raises(ExampleTooLong, match=r"dev:7 has 8 tokens, but the model's context has 7"):
        encode_examples(encoder, examples, 7)


def test_an_empty_context_becomes_the_token_that_begins_a_text() -> None:
    assert Encoder(tiny_tokenizer()).context_ids(()) == ids("<s>")
    assert Encoder(tiny_tokenizer(bos=False)).context_ids(()) == ids("</s>")
    assert Encoder(tiny_tokenizer("<s> $A")).context_ids(()) == ids("<s>")
    assert Encoder(tiny_tokenizer("<s> $A")).context_ids((9, 8)) == (*ids("<s>"), 9, 8)
    assert Encoder(tiny_tokenizer()).context_ids((9, 8)) == (9, 8)


def test_each_token_has_its_text() -> None:
    example = encoded("cab, é yes", " no")
    assert example.token_texts == ("c", "ab", ",", " ", "é", " ye", "s")


def test_retokenising_gives_the_ids_of_the_text() -> None:
    encoder = Encoder(tiny_tokenizer("<s> $A"))
    # Without the token between them, a and b become one token.
    assert encoder.retokenise(ids("a", "b", " ", "c")) == ids("ab", " ", "c")
    assert encoder.retokenise(()) == ()


@pytest.mark.parametrize(
    ("prompt", "option"),
    [
        ("Question: Why is ice slippery?\nAnswer:", " It melts."),
        ("A puddle shrinks at noon because ", " it evaporates"),
        ("Ein naïver Café\n", " schließt"),
        ("x = 1", "0"),
    ],
)
def test_the_default_tokenizer_splits_like_the_harness(
    prompt: str, option: str, smollm2: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    example = encoded(prompt, option, encoder=Encoder(tokenizer))
    assert ([*example.prompt], [*example.options[0]]) == harness(tokenizer, prompt, option)
    assert example.prefix == ()
    assert len(example.token_texts) == len(example.prompt)
