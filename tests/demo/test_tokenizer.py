import json

import pytest

from jaxmerge.demo import data, tokenizer, world
from jaxmerge.tokens.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path):
    tokenizer.write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


def test_auto_tokenizer_gives_every_text_back(folder):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    for problem in data.splits()["validation"][:50]:
        for language in ("en", "ja"):
            text = f"{world.question(problem, language)} {world.solution(problem, language)}"
            ids = loaded(text)["input_ids"]
            assert ids[0] == 1 and loaded.unk_token_id not in ids
            assert loaded.decode(ids, skip_special_tokens=True) == text
            assert Tokenizer.open(folder).encode(text) == ids


def test_an_unknown_word_is_one_unknown_token(folder):
    assert Tokenizer.open(folder).encode("Ben has zebras") == [
        1,
        tokenizer.VOCABULARY["Ben"],
        tokenizer.VOCABULARY["has"],
        tokenizer.VOCABULARY["<unk>"],
    ]
