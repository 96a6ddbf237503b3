"""Which tokens two vocabularies share, whatever way each of them spells white space and bytes."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmerge.tokens.vocabulary import Vocabulary

BYTE_LEVEL, METASPACE, AS_WRITTEN = "byte level", "metaspace", "as written"
WORD_START = "▁"
# A byte by its number.
_NUMBERED = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def shared_rows(
    target: Vocabulary,
    source: Vocabulary,
    target_named: Mapping[str, str],
    source_named: Mapping[str, str],
) -> np.ndarray:
    """For every id of `target` that of the same token in `source`, int64 `[target.size]`, -1 where there is none.

    Tokens are the same that are spelt alike where both spell in one way, else those that stand for the same bytes. A
    special token without its like is the one of the same role. named: token by role, such as `eos_token`.
    """
    way, other = spelling(target), spelling(source)
    if way == other:
        known: dict[Any, int] = dict(source.ids)
        keys: dict[str, Any] = {token: token for token in target.ids}
    else:
        known = {}
        for token, i in source.ids.items():
            # Of two tokens for the same bytes the text comes before the byte by its number.
            key = _content(token, source, other)
            if key not in known or not _NUMBERED.fullmatch(token):
                known[key] = i
        keys = {token: _content(token, target, way) for token in target.ids}
    found = np.full(target.size, -1, np.int64)
    for token, i in target.ids.items():
        found[i] = known.get(keys[token], -1)
    for role, token in target_named.items():
        own, like = target.ids.get(token), source.ids.get(source_named.get(role, ""))
        if own is not None and like is not None and found[own] < 0:
            found[own] = like
    return found


def spelling(vocabulary: Vocabulary) -> str:
    """How a vocabulary spells a space: as the letter Ġ and all bytes as letters (GPT-2), as ▁ (SentencePiece), or as
    it is."""
    content = vocabulary.content
    parts = [content.get(name) or {} for name in ("pre_tokenizer", "decoder", "normalizer")]
    steps = [step for part in parts for step in _steps(part)]
    if any(step.get("type") == "ByteLevel" for step in steps):
        return BYTE_LEVEL
    marked = any(WORD_START in str(step) or step.get("type") == "Metaspace" for step in steps)
    return METASPACE if marked else AS_WRITTEN


def _steps(part: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [step for name in ("pretokenizers", "decoders", "normalizers") for step in part.get(name) or ()]
    return [part, *(found for step in inner for found in _steps(step))] if inner else [part]


def _content(token: str, vocabulary: Vocabulary, way: str) -> bytes | tuple[str, str]:
    """The bytes that a token stands for. A special token stands for none but itself."""
    added = vocabulary.added.get(token)
    if added is not None and added.get("special"):
        return ("special", token)
    if added is not None:
        return token.encode()
    if way == BYTE_LEVEL and all(letter in _BYTES for letter in token):
        return bytes(_BYTES[letter] for letter in token)
    if way == METASPACE:
        byte = _NUMBERED.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(WORD_START, " ").encode()
    return token.encode()


def _byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte, by letter: the byte's own where it can be seen, else one beyond 255."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (byte for byte in range(256) if byte not in visible)
    return {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTES = _byte_letters()
