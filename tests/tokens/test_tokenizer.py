"""Our tokenizer against transformers' AutoTokenizer."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from transformers import AutoTokenizer

from jaxmerge.errors import InputError
from jaxmerge.tokens.tokenizer import Tokenizer

TEXTS = [
    "", " ", "a b c", "What is 12 + 30?", " leading", "trailing ", "two  spaces", "line\nbreak\n\n", "答えは 42 です。",
    "<s>literal</s> special <|end|> tokens <pad>", "naïve café 👍🏽", "\u3000全角　空白",
    "1,234.50", "tab\t.", "e\u0301",
]
CHAT = (
    "{% for m in messages %}<|user|>{{ m['role'] }}: {{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(params=["byte_folder", "word_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def changed(byte_folder: Path, tmp_path: Path):
    """`changed(key=value)`: a copy of the byte-level folder with other keys in tokenizer_config.json."""

    def change(**keys: object) -> Path:
        shutil.copytree(byte_folder, tmp_path / "model")
        file = tmp_path / "model" / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | keys))
        return tmp_path / "model"

    return change


def assert_same_as_transformers(folder: Path) -> None:
    ours, theirs = Tokenizer.open(folder), AutoTokenizer.from_pretrained(folder)
    for special in (True, False):
        expected = [theirs.encode(text, add_special_tokens=special) for text in TEXTS]
        assert [ours.encode(text, special=special) for text in TEXTS] == expected
        assert ours.encode_all(TEXTS, special=special) == expected
    for text in TEXTS:
        ids = theirs.encode(text)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids, special=True) == theirs.decode(ids)
    assert theirs.eos_token_id in ours.eos_ids
    assert ours.pad_id == theirs.pad_token_id
    assert ours.size == len(theirs)


def test_plain_folders_are_read_without_transformers_and_equal_it(folder: Path) -> None:
    assert Tokenizer.open(folder)._plain is not None
    assert_same_as_transformers(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"add_bos_token": False},
        {"add_eos_token": True, "add_bos_token": True},
        {"extra_special_tokens": ["<new>"]},
        {"clean_up_tokenization_spaces": True},
        {"bos_token": "The"},
        {"pad_token": "<new-pad>"},
        {"tokenizer_class": "GPT2Tokenizer"},
    ],
    ids=str,
)
def test_what_transformers_adds_is_left_to_transformers(changed, keys: dict[str, object]) -> None:
    folder = changed(**keys)
    assert Tokenizer.open(folder)._plain is None
    assert_same_as_transformers(folder)


def test_every_eos_id_is_collected(changed) -> None:
    folder = changed()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 2]}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 3}))
    assert Tokenizer.open(folder).eos_ids == (2, 3, 4)


def test_chat_template_renders_as_transformers_does(changed) -> None:
    folder = changed(chat_template=CHAT)
    messages = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "12 + 30?"}]
    ours, theirs = Tokenizer.open(folder), AutoTokenizer.from_pretrained(folder)
    text = ours.chat(messages)
    assert text == "<|user|>system: Be brief.<|end|>\n<|user|>user: 12 + 30?<|end|>\nassistant:"
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.encode(text, special=False) == expected


def test_a_missing_or_refusing_chat_template_is_named(changed) -> None:
    folder = changed()
    with pytest.raises(InputError, match="no chat template"):
        Tokenizer.open(folder).chat([{"role": "user", "content": "x"}])
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    with pytest.raises(InputError, match="no system message"):
        Tokenizer.open(folder).chat([{"role": "user", "content": "x"}])


def test_affixes(byte_folder: Path, word_folder: Path, ending_folder: Path) -> None:
    assert Tokenizer.open(byte_folder).affixes == (1, 0)
    assert Tokenizer.open(word_folder).affixes == (0, 0)
    assert Tokenizer.open(ending_folder).affixes == (1, 1)


def test_affixes_where_a_letter_is_no_token(changed) -> None:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({"<s>": 0, "</s>": 1, "<pad>": 2, "w": 3}, []))
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    assert tokenizer.encode("a").ids == [0]
    folder = changed()
    tokenizer.save(str(folder / "tokenizer.json"))
    assert Tokenizer.open(folder).affixes == (1, 0)


def test_tokens_that_begin_with_a_text(byte_folder: Path, word_folder: Path) -> None:
    tokenizer = Tokenizer.open(byte_folder)
    found = tokenizer.beginning_with("\n")
    assert found == tuple(i for i in range(tokenizer.size) if tokenizer.decode([i]).startswith("\n"))
    assert tokenizer.beginning_with("答え") == tuple(
        i for i in range(tokenizer.size) if tokenizer.decode([i]).startswith("答え")
    )
    assert tokenizer.encode("\n", special=False)[0] in found
    assert Tokenizer.open(word_folder).beginning_with("a") == ()


def test_a_text_that_the_vocabulary_cannot_spell_is_named(tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"known": 0}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(InputError, match=f"{tmp_path}: its tokenizer cannot encode 'strange'"):
        Tokenizer.open(tmp_path).encode("strange")


def test_bad_folders_are_input_errors(tmp_path: Path, changed) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Tokenizer.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        Tokenizer.open(tmp_path / "empty")
    folder = changed()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        Tokenizer.open(folder)


def test_a_plain_tokenizer_does_not_import_transformers(byte_folder: Path) -> None:
    code = (
        "import sys; from jaxmerge.tokens.tokenizer import Tokenizer;"
        f"Tokenizer.open({str(byte_folder)!r}).encode('x'); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
