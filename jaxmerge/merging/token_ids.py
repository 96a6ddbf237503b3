"""What config.json and generation_config.json say of token ids, where the tokenizer is replaced by another model's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmerge.converters.checkpoint import read_json
from jaxmerge.merging.tokenizer import GENERATION, write_json
from jaxmerge.tokens.vocabulary import Vocabulary

SUFFIXES = ("_token_id", "_token_index")


@dataclass(frozen=True)
class TokenIds:
    """source, target: the vocabulary that ids are of, and the one that they are to be of. given: what the model that
    the tokenizer comes from says in its config.json; generation: in its generation_config.json."""

    source: Vocabulary
    target: Vocabulary
    given: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Vocabulary, target: Vocabulary, donor: Path, config: Mapping[str, Any]) -> "TokenIds":
        """donor: the other model's folder. config: its config.json."""
        file = donor / GENERATION
        generation = _ids(read_json(file)) if file.is_file() else {}
        return cls(source, target, _ids(config), generation)

    def config(self, config: Mapping[str, Any], rows: int) -> dict[str, Any]:
        """A copy of config.json with the ids and the number of rows, where it has them: a composite model's stand in a
        section."""
        changed = {
            key: self.config(value, rows) if isinstance(value, dict) and "vocab_size" in value else value
            for key, value in config.items()
        }
        if "vocab_size" in config:
            return self._moved(changed, self.given) | {"vocab_size": rows}
        return self._moved(changed, {key: value for key, value in self.given.items() if key in config})

    def change_generation(self, folder: Path) -> None:
        """The generation_config.json of a folder, if it has one; a file that says so already keeps its bytes."""
        file = folder / GENERATION
        if file.is_file():
            content = read_json(file)
            known = {key: value for key, value in {**self.given, **self.generation}.items() if key in content}
            if (changed := self._moved(content, known)) != content:
                write_json(file, changed)

    def _moved(self, section: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The other model's ids; of what it says nothing, the id that the same token has now, None where there is none.
        """
        moved = {key: self._id(value) for key, value in section.items() if key.endswith(SUFFIXES)}
        return {**section, **moved, **given}

    def _id(self, value: Any) -> Any:
        if isinstance(value, list):
            return [i for i in map(self._id, value) if i is not None]
        token = next((token for token, i in self.source.ids.items() if i == value), None)
        return self.target.ids.get(token) if token is not None else None


def _ids(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a section that has a vocabulary, and those beside it."""
    sections = [value for value in config.values() if isinstance(value, dict) and "vocab_size" in value]
    return {key: value for part in (*sections, config) for key, value in part.items() if key.endswith(SUFFIXES)}
