from pathlib import Path

import pytest

from jaxmerge.errors import InputError
from jaxmerge.tokens.prompt import PromptFormat, encode_answers, fill, sole_field
from jaxmerge.tokens.tokenizer import Tokenizer

FIELDS = {"question": "2 {x} 3?", "answer": 5, "choices": ["ja", "nein"], "ok": True, "none": None}


@pytest.mark.parametrize(
    "template, expected",
    [
        ("{question} =", "2 {x} 3? ="),  # braces inside a value are not filled again
        ("{answer}", "5"),
        ("{choices} {ok}", '["ja", "nein"] true'),
        ("\\boxed{} {}", "\\boxed{} {}"),
        ("\\boxed{x} \\frac{a}{b} x^{n} y_{i}", "\\boxed{x} \\frac{a}{b} x^{n} y_{i}"),
        ("\\boxed{{answer}}", "\\boxed{5}"),
        ('{"json": {answer}, "b": [1]}', '{"json": 5, "b": [1]}'),
        ("{ question } {1} {a.b}", "{ question } {1} {a.b}"),
    ],
)
def test_only_known_fields_are_replaced(template: str, expected: str) -> None:
    assert fill(template, FIELDS, "here") == expected


def test_a_field_that_the_data_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"math\.prompt: s\.jsonl:3: no field 'qestion'; the data has: question"):
        fill("{qestion}", FIELDS, "math.prompt: s.jsonl:3")
    with pytest.raises(InputError, match="field 'none' is null"):
        fill("{none}", FIELDS, "here")


def test_sole_field_gives_the_value_itself() -> None:
    assert sole_field("{choices}", FIELDS) == ["ja", "nein"]
    assert sole_field("{answer} ", FIELDS) == 5
    assert sole_field("x {answer}", FIELDS) is None


def harness(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The rule as lm-evaluation-harness describes it: trailing spaces of the context go to the continuation; the
    continuation's tokens are what remains of the whole after as many tokens as the context has."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole = tokenizer.encode(context + continuation)
    return whole, whole[len(tokenizer.encode(context)) :]


@pytest.mark.parametrize("prompt", ["What is 12 + 30? ", "What is 12 + 30?", "The answer is", "答えは\n", "x  \n ", ""])
@pytest.mark.parametrize("answer", ["42", " 42", "です。", "the lazy dog", "."])
def test_boundary_follows_the_harness(byte_folder: Path, prompt: str, answer: str) -> None:
    tokenizer = Tokenizer.open(byte_folder)
    [(ids, place)] = encode_answers(tokenizer, [(prompt, answer)], special=True)
    whole, counted = harness(tokenizer, prompt, answer)
    assert ids == whole and ids[place:] == counted


def test_a_space_at_the_end_of_the_prompt_makes_no_difference(byte_folder: Path) -> None:
    tokenizer = Tokenizer.open(byte_folder)
    pairs = [("The answer is ", "42"), ("The answer is", " 42")]
    first, second = encode_answers(tokenizer, pairs, special=True)
    assert first == second


def test_a_token_behind_the_text_never_counts(ending_folder: Path) -> None:
    tokenizer = Tokenizer.open(ending_folder)
    [(ids, place)] = encode_answers(tokenizer, [("The answer is", " 42.")], special=True)
    assert tokenizer.decode(ids[place:], special=True) == " 42." and ids[0] == 1 and 2 not in ids


def test_without_special_tokens_the_first_token_never_counts(word_folder: Path) -> None:
    tokenizer = Tokenizer.open(word_folder)
    [(ids, place)] = encode_answers(tokenizer, [("", "a b c")], special=True)
    assert len(ids) == 3 and place == 1


def test_few_shot_examples_come_first(word_folder: Path) -> None:
    tokenizer = Tokenizer.open(word_folder)
    shots = [("1 + 1 =", " 2"), ("2 + 2 =", " 4")]
    assert PromptFormat(shots=shots).text(tokenizer, "3 + 3 =") == "1 + 1 = 2\n\n2 + 2 = 4\n\n3 + 3 ="
