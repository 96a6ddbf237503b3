"""Tokenizers made on the spot, as folders that transformers can open too."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

# Programs that several tests or their subprocesses compile are compiled once. Set before anything imports jax.
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# Files of few tests that take long: begun last, they would leave the other worker without work.
_LONG = (
    *("test_road.py", "test_shared.py", "test_mesh.py", "test_homes.py", "test_wheel.py", "test_structure.py"),
    *("test_gradients.py", "test_train.py", "test_screen.py", "test_joint.py", "test_routed.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the rest as it was."""
    items.sort(key=lambda item: item.path.name not in _LONG)


SENTENCES = [
    "The quick brown fox jumps over the lazy dog, twice.",
    "What is 12 + 30? The answer is 42.",
    "答えは 42 です。りんごが３個あります。",
    "def f(x):\n    return x ** 2\n",
    "naïve café — “quotes” … 👍🏽",
]
WORDS = [*"abcdefg0123456789+-=?.\n", "answer", "is", "the", "答え", "は", "です", "個"]


def write_tokenizer(folder: Path, tokenizer: tokenizers.Tokenizer, **config: Any) -> Path:
    """A folder with tokenizer.json, tokenizer_config.json and a config.json of a Llama."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}))
    return folder


def byte_level(form: str = "<s> $A") -> tokenizers.Tokenizer:
    """Byte-level BPE trained on a few sentences; ids: <pad> 0, <s> 1, </s> 2, <|user|> 3, <|end|> 4.

    form: what is put around a text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=form, pair=f"{form} $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def word_level() -> tokenizers.Tokenizer:
    """One token a word, split at spaces; <pad> 0, <s> 1, </s> 2, <unk> 3, then WORDS. No token of its own accord."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return tokenizer


@pytest.fixture(scope="session")
def byte_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("byte"), byte_level(), bos_token="<s>")


@pytest.fixture(scope="session")
def ending_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like byte_folder, but every text gets an </s> behind it too."""
    return write_tokenizer(tmp_path_factory.mktemp("end"), byte_level("<s> $A </s>"), bos_token="<s>")


@pytest.fixture(scope="session")
def word_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("word"), word_level(), unk_token="<unk>")
