"""Tokens are the same by the bytes they stand for, and special ones by their role."""

import numpy as np
import pytest

from jaxmerge.tokens.matching import shared_rows, spelling
from jaxmerge.tokens.vocabulary import Vocabulary


def vocabulary(way: str, *tokens: str, special: tuple[str, ...] = ()) -> Vocabulary:
    steps = {
        "byte level": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]}},
        "metaspace": {"decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}}]}},
        "as written": {"pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None},
    }
    ids = {token: i for i, token in enumerate((*tokens, *special))}
    return Vocabulary(ids, {token: {"content": token, "special": True} for token in special}, steps[way])


GPT = vocabulary("byte level", "Ġthe", "the", "Ã©", "Ċ", "ĠÃ", "x", special=("<|end|>", "<bos>"))
LLAMA = vocabulary("metaspace", "the", "▁the", "é", "<0x0A>", "x", "<0x78>", "Ã©", special=("</s>", "<bos>"))


@pytest.mark.parametrize(("model", "way"), [(GPT, "byte level"), (LLAMA, "metaspace")])
def test_the_way_of_spelling_is_found(model: Vocabulary, way: str) -> None:
    assert spelling(model) == way


def test_the_same_bytes_are_the_same_token() -> None:
    found = shared_rows(GPT, LLAMA, {"eos_token": "<|end|>"}, {"eos_token": "</s>"})
    assert found.tolist() == [1, 0, 2, 3, -1, 4, 7, 8]
    back = shared_rows(LLAMA, GPT, {}, {})
    # The letters Ã© are other bytes than what GPT-2's letters of that shape stand for.
    assert back.tolist() == [1, 0, 2, 3, 5, 5, -1, -1, 7]


def test_in_one_way_of_spelling_the_spelling_counts() -> None:
    plain = vocabulary("as written", "a", "b", "c")
    other = vocabulary("as written", "c", "a")
    np.testing.assert_array_equal(shared_rows(plain, other, {}, {}), [1, -1, 0])
    assert shared_rows(plain, plain, {"pad_token": "b"}, {"pad_token": "a"}).tolist() == [0, 1, 2]
