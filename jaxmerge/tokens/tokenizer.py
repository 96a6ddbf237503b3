"""A model's tokenizer: text to ids and back, exactly as transformers' AutoTokenizer does it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxmerge.errors import InputError

# What AutoTokenizer loads for these families from a plain tokenizer.json is that file and nothing else.
# Others, such as Qwen2, are rebuilt by a class of their own.
_PLAIN_FAMILIES = {"llama", "mistral", "qwen3"}
_PLAIN_CLASSES = {"PreTrainedTokenizerFast", "TokenizersBackend"}
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a model folder.

    eos_ids: every id that ends a text: of generation_config.json, config.json and the tokenizer, ascending.
    """

    folder: Path
    eos_ids: tuple[int, ...]
    pad_id: int | None
    _plain: Any = field(
        repr=False
    )  # a tokenizers.Tokenizer, or None where only transformers knows how to read it

    @classmethod
    def open(cls, folder: str | Path) -> "Tokenizer":
        """Read a folder's tokenizer: with `tokenizers` (50 ms) where that is all transformers would do, else
        with transformers (some seconds). Raises InputError where there is none or it cannot be read."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; a tokenizer is read from a model's folder")
        model, config = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
        plain = _read_plain(folder, model, config)
        bare = cls(folder, (), None, plain)
        eos, pad = _content(config.get("eos_token")), _content(config.get("pad_token"))
        if plain is None:
            eos, pad = bare._transformers.eos_token, bare._transformers.pad_token
        own = {bare.token_id(eos)} if eos is not None else set()
        ids = own | declared_eos_ids(folder)
        eos_ids = tuple(sorted(i for i in ids if i is not None))
        return cls(folder, eos_ids, bare.token_id(pad) if pad is not None else None, plain)

    @cached_property
    def _transformers(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False, verbose=False
            )
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise InputError(f"{self.folder}: its tokenizer cannot be read: {reason}") from error

    @cached_property
    def size(self) -> int:
        """Number of tokens, added ones included: every id is smaller."""
        if self._plain is None:
            return max(self._transformers.get_vocab().values()) + 1
        return max(self._plain.get_vocab().values()) + 1

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """special: with the tokens that the tokenizer puts around a text of its own accord."""
        return self.encode_all([text], special=special)[0]

    def encode_all(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        if not texts:
            return []
        try:
            if self._plain is None:
                return self._transformers(texts, add_special_tokens=special, padding=False)["input_ids"]
            return [e.ids for e in self._plain.encode_batch_fast(texts, add_special_tokens=special)]
        except Exception as error:  # of a vocabulary without a token for what it does not know, for one
            shown = texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1} more"
            raise InputError(f"{self.folder}: its tokenizer cannot encode {shown!r}: {error}") from error

    def decode(self, ids: list[int], *, special: bool = False) -> str:
        """special: with special tokens."""
        if self._plain is None:
            return self._transformers.decode(ids, skip_special_tokens=not special)
        return self._plain.decode(ids, skip_special_tokens=not special)

    def token_id(self, token: str) -> int | None:
        """The id of a whole token as the vocabulary spells it."""
        if self._plain is None:
            return self._transformers.get_vocab().get(token)
        return self._plain.token_to_id(token)

    def beginning_with(self, text: str) -> tuple[int, ...]:
        """The tokens whose text begins with `text`, where decoding only joins bytes (a byte-level tokenizer): cutting
        before such a token is cutting before the text. None for other tokenizers."""
        backend: Any = self._plain
        if backend is None:
            backend = getattr(self._transformers, "backend_tokenizer", None)
        if type(getattr(backend, "decoder", None)).__name__ != "ByteLevel":
            return ()
        from tokenizers.pre_tokenizers import ByteLevel

        # The vocabulary spells bytes as characters of its own.
        [(spelt, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        return tuple(sorted(i for token, i in backend.get_vocab().items() if token.startswith(spelt)))

    @cached_property
    def affixes(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and after a text."""
        # A vocabulary may lack a letter, which is then dropped; some token of its own it has.
        for probe in ("a", *self._spellings):
            bare, full = self.encode(probe, special=False), self.encode(probe, special=True)
            places = [i for i in range(len(full)) if full[i : i + len(bare)] == bare]
            # A special token among the probes would stand there twice and say nothing.
            if bare and len(places) == 1:
                return places[0], len(full) - len(bare) - places[0]
        return 0, 0

    @property
    def _spellings(self) -> Iterator[str]:
        yield from (self._transformers if self._plain is None else self._plain).get_vocab()

    def chat(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation up to where the model answers, by the tokenizer's chat template. It
        brings its own
        special tokens: encode it with special=False. Raises InputError where there is no template or it
        refuses."""
        if self._transformers.chat_template is None:
            raise InputError(f"{self.folder}: its tokenizer has no chat template; set chat_template: false")
        try:
            return self._transformers.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            raise InputError(f"{self.folder}: its chat template refuses the conversation: {error}") from error


def declared_eos_ids(folder: Path) -> set[int]:
    """The ids that end a text by generation_config.json and config.json; a tokenizer may know another."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        declared = _json(folder / name).get("eos_token_id")
        ids.update(i for i in (declared if isinstance(declared, list) else [declared]) if i is not None)
    return ids


def _read_plain(folder: Path, model: dict[str, Any], config: dict[str, Any]) -> Any:
    """The `tokenizers` object, or None where transformers would add anything to tokenizer.json."""
    file = folder / "tokenizer.json"
    simple = (
        file.is_file()
        and not (folder / "tekken.json").exists()
        and model.get("model_type") in _PLAIN_FAMILIES
        and config.get("tokenizer_class") in _PLAIN_CLASSES
        and not any(
            config.get(key)
            for key in (
                "auto_map",
                "additional_special_tokens",
                "extra_special_tokens",
                "split_special_tokens",
            )
        )
        and not config.get("clean_up_tokenization_spaces")
        and "add_bos_token" not in config
        and "add_eos_token" not in config
    )
    if not simple:
        return None
    data = _json(file)
    added = {
        token["id"]: {flag: token.get(flag) for flag in _FLAGS} for token in data.get("added_tokens", [])
    }
    declared = config.get("added_tokens_decoder", {})
    if any({flag: t.get(flag) for flag in _FLAGS} != added.get(int(i)) for i, t in declared.items()):
        return None
    # transformers adds named tokens again, as special tokens that are matched before normalisation.
    plain_special = {t["content"] for t in added.values() if t == _special(t["content"])}
    for value in _named(folder, config).values():
        if value is not None and (not isinstance(value, str) or value not in plain_special):
            return None
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Larger vocabularies may be Mistral's, whose pattern transformers repairs.
    return tokenizer if tokenizer.get_vocab_size() <= 100_000 else None


def named_tokens(folder: Path) -> dict[str, str]:
    """The tokens that a folder's tokenizer has a role for, by role: `bos_token`, `eos_token`, `pad_token`, ..."""
    named = _named(folder, _json(folder / "tokenizer_config.json"))
    found = {key: _content(value) for key, value in named.items() if key in _NAMED}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _named(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    mapped = _json(folder / "special_tokens_map.json")
    named = {key: value for key, value in config.items() if key in _NAMED}
    return named | {key: value for key, value in mapped.items() if value is not None}


def _special(content: str) -> dict[str, Any]:
    flags: dict[str, Any] = dict.fromkeys(_FLAGS, False)
    return flags | {"content": content, "special": True}


def _content(token: Any) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def _json(file: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: must hold a JSON object")
    return value
