"""YAML 1.2 that remembers where each key stands, and validation whose errors say so.

`no` is a string and `1e-3` a number. A key given twice is an error.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from jaxmerge.errors import InputError, unknown

Path_ = tuple[str | int, ...]


class Strict(BaseModel):
    """Base of every schema: frozen, and a key that is not a field is an error that names the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        if isinstance(content, dict):
            known = [f.alias or name for name, f in cls.model_fields.items()]
            for key in content:
                if key not in known:
                    raise PydanticCustomError("unknown_key", "{key}", {"key": str(key), "known": known})
        return content


Schema = TypeVar("Schema", bound=Strict)


@dataclass(frozen=True)
class Document:
    """One YAML document, or a plain mapping given from Python.

    name: the file, or what else to call it in messages. content: plain dicts, lists and scalars.
    lines: the line (from 1) of each path of keys and indices; empty where it did not come from a file.
    """

    name: str
    content: Any
    lines: dict[Path_, int] = field(default_factory=dict)

    def where(self, *path: str | int) -> str:
        """`recipe.yaml:7: models[0].parameters.weight`, for the start of a message."""
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        place = self.name if line is None else f"{self.name}:{line}"
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return f"{place}: {dotted}" if dotted else place

    def validate(self, schema: type[Schema]) -> Schema:
        """The content as `schema`. Raises InputError with the first errors in one line, each with its place."""
        if not isinstance(self.content, dict):
            raise InputError(f"{self.name}: must be a mapping of keys to values")
        try:
            return schema.model_validate(self.content)
        except ValidationError as error:
            messages = dict.fromkeys(self._message(details) for details in error.errors())
            raise InputError("; ".join(list(messages)[:3])) from None

    def _message(self, error: ErrorDetails) -> str:
        path = tuple(error["loc"])
        if error["type"] == "unknown_key":
            key, known = error["ctx"]["key"], error["ctx"]["known"]
            place = self.where(*path, key).removesuffix(key).removesuffix(".")
            return str(unknown("key", key, known, place.removesuffix(": ")))
        if error["type"] == "missing":
            return f"{self.where(*path[:-1])}: the key '{path[-1]}' is missing"
        text = error["msg"].removeprefix("Value error, ")
        text = text[:1].lower() + text[1:]
        # Our own messages say what is wrong with the value; pydantic's need it shown.
        shown = "" if error["type"] == "value_error" else f", not {_short(error['input'])}"
        return f"{self.where(*path)}: {text}{shown}"


def read_documents(file: Path) -> list[Document]:
    """All documents of a YAML file. Raises InputError naming file and line where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{file}: cannot be read ({reason}); name a YAML file") from error
    try:
        trees = list(YAML(typ="rt").load_all(text))
        return [_document(str(file), tree) for tree in trees]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: not valid YAML ({error.problem or error.context})") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid YAML ({' '.join(str(error).split()) or 'nested without end'})") from error


def _document(name: str, tree: Any) -> Document:
    lines: dict[Path_, int] = {}
    return Document(name, _plain(tree, (), lines), lines)


def _plain(node: Any, path: Path_, lines: dict[Path_, int]) -> Any:
    """ruamel's nodes as plain Python; notes the line of every key and item."""
    if isinstance(node, dict):
        for key in node:
            _note(lines, (*path, str(key)), node, key)
        return {str(key): _plain(value, (*path, str(key)), lines) for key, value in node.items()}
    if isinstance(node, list):
        for i in range(len(node)):
            _note(lines, (*path, i), node, i)
        return [_plain(value, (*path, i), lines) for i, value in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _note(lines: dict[Path_, int], path: Path_, node: Any, key: Any) -> None:
    # Keys that come through a merge (`<<`) have no place of their own.
    position = (getattr(node.lc, "data", None) or {}).get(key)
    if position is not None:
        lines[path] = position[0] + 1


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
