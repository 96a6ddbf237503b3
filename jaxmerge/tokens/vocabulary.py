"""The vocabulary of a model folder, read from tokenizer.json alone, and the union of several."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmerge.errors import CheckpointError, InputError

FILE = "tokenizer.json"
# What an added token is where no model says anything of it.
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@dataclass(frozen=True)
class Vocabulary:
    """ids: of every token as the vocabulary spells it. added: the entries of tokenizer.json's `added_tokens` by token.
    content: all of tokenizer.json."""

    ids: dict[str, int]
    added: dict[str, dict[str, Any]]
    content: dict[str, Any] = field(repr=False)

    @property
    def size(self) -> int:
        """Every id is smaller."""
        return 1 + max(self.ids.values(), default=-1)

    @classmethod
    def read(cls, folder: Path) -> "Vocabulary":
        """Raises InputError where there is no tokenizer.json, CheckpointError where it is none."""
        file = folder / FILE
        if not file.is_file():
            raise InputError(f"{file}: is missing; save the tokenizer with AutoTokenizer, or set no tokenizer")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            own = content["model"]["vocab"]
            # Unigram models list pairs of token and score; the place is the id.
            ids = {entry[0]: i for i, entry in enumerate(own)} if isinstance(own, list) else dict(own)
            added = {entry["content"]: entry for entry in content.get("added_tokens") or ()}
            return cls(ids | {token: int(entry["id"]) for token, entry in added.items()}, added, content)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise CheckpointError(f"{file}: is not a tokenizer ({error!r}); fetch or save it again") from error

    def extended(self, tokens: Iterable[str], like: Sequence["Vocabulary"] = ()) -> "Vocabulary":
        """With those of `tokens` that are not in it as added tokens, with the next ids in the order given. A token
        keeps the flags it has in the first of `like` that added it.
        """
        ids, added = dict(self.ids), dict(self.added)
        following = self.size
        for token in tokens:
            if token in ids:
                continue
            flags = next((other.added[token] for other in like if token in other.added), PLAIN)
            ids[token] = following
            added[token] = {**flags, "id": following, "content": token}
            following += 1
        listed = sorted(added.values(), key=lambda entry: entry["id"])
        return Vocabulary(ids, added, {**self.content, "added_tokens": listed})


def union(vocabularies: Sequence[Vocabulary]) -> Vocabulary:
    """The first vocabulary, extended by the tokens of the others: model by model, each in the order of its ids."""
    first, *others = vocabularies
    tokens = (token for other in others for token in sorted(other.ids, key=other.ids.__getitem__))
    return first.extended(tokens, others)
