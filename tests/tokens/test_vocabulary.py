"""Vocabularies and embedding rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.tokens.rows import align
from jaxmerge.tokens.vocabulary import FILE, Vocabulary, union

INPUTS = Path(__file__).parents[1] / "golden" / "inputs_tok"


def words(*tokens: str) -> Vocabulary:
    return Vocabulary({token: i for i, token in enumerate(tokens)}, {}, {})


def test_ids_are_those_of_the_tokenizer() -> None:
    for model in ("base", "ftA", "ftB"):
        assert Vocabulary.read(INPUTS / model).ids == Tokenizer.from_file(str(INPUTS / model / FILE)).get_vocab()


def test_a_union_adds_tokens_in_order_of_model_and_id() -> None:
    assert union([words("a", "b"), words("z", "b", "y"), words("x", "z", "a")]).ids == {
        **{"a": 0, "b": 1},
        **{"z": 2, "y": 3, "x": 4},
    }


def test_a_union_is_a_tokenizer(tmp_path: Path) -> None:
    both = union([Vocabulary.read(INPUTS / "base"), Vocabulary.read(INPUTS / "ftA")])
    (tmp_path / FILE).write_text(json.dumps(both.content))
    tokenizer = Tokenizer.from_file(str(tmp_path / FILE))
    assert tokenizer.get_vocab() == both.ids
    assert tokenizer.encode("w3<|im_end|>w4").tokens == ["w3", "<|im_end|>", "w4"]


def test_added_tokens_keep_their_flags() -> None:
    special = {"id": 1, "content": "<s>", "special": True}
    other = Vocabulary({"a": 0, "<s>": 1}, {"<s>": special}, {})
    assert union([words("a", "b"), other]).added["<s>"] == special | {"id": 2}
    assert union([words("a"), words("<s>")]).added["<s>"]["special"] is False


def test_unigram_pieces_are_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.5]]}}')
    assert Vocabulary.read(tmp_path).ids == {"a": 0, "b": 1}


def test_a_missing_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: is missing"):
        Vocabulary.read(tmp_path)
    for text in ("{", "{}", "[]", '{"model": {"vocab": 3}}', '{"model": {"vocab": {}}, "added_tokens": [{}]}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: is not a tokenizer"):
            Vocabulary.read(tmp_path)


MODELS = [words("a", "b"), words("b", "a", "c"), words("c", "d", "e")]
ARRAYS = {i: np.arange(3.0 if i else 2.0)[:, None].astype(np.float32) + 10 * (i + 1) for i in range(3)}


def rows(base: int | None, given: dict | None = None, forced: frozenset[str] = frozenset(), size: int = 6) -> list:
    output = words("a", "b", "c", "d", "e", "new")
    depths = [len(ARRAYS[i]) for i in range(3)]
    aligned = align(output, MODELS, depths, base, given or {}, forced, size)
    return [each.take(i, ARRAYS).ravel().tolist() for i, each in enumerate(aligned)]


def test_missing_tokens_come_from_the_owner_the_base_or_the_mean() -> None:
    with_base = rows(base=0)
    #               a   b   c     d   e   new
    assert with_base[0] == [10, 11, 26, 31, 32, 0]
    assert with_base[1] == [21, 20, 22, 31, 32, 0]
    assert with_base[2] == [10, 11, 30, 31, 32, 0]
    assert rows(base=None)[2] == [15.5, 15.5, 30, 31, 32, 0]


def test_given_rows_fill_and_force_replaces() -> None:
    assert rows(0, {"c": ((1, 0),)})[0][2] == 20 and rows(0, {"c": ((1, 0),)})[1][2] == 22
    assert [r[2] for r in rows(0, {"c": ((1, 0),)}, frozenset({"c"}))] == [20, 20, 20]
    assert [r[2] for r in rows(0, {"c": ()}, frozenset({"c"}))] == [0, 0, 0]


def test_padding_is_the_mean_of_the_rows() -> None:
    padded = rows(0, size=8)[0]
    assert padded[6:] == [np.float32(sum(padded[:6]) / 6)] * 2


def test_ids_beyond_the_embedding_are_missing() -> None:
    aligned = align(words("a", "b"), [words("a", "b"), words("a", "b")], [1, 2], 0, {}, frozenset(), 2)
    assert aligned[0].own.tolist() == [0, -1] and aligned[0].filled == {1: ((1, 1),)}
