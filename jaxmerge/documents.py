"""YAML files of the user: read as YAML 1.2, checked strictly, errors with file and line.

YAML 1.2 means that `no` is a string and `1e-3` a number.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from jaxmerge.errors import InputError, joined

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Keys = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A YAML document as plain Python.

    data: its content. lines: the line, from 1, of each key and list item, by its path from the root; where it is one of
    several in its file, also that of its root.
    """

    file: Path
    data: Any
    lines: dict[Keys, int] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Raises InputError where the file is missing, unreadable or no YAML, or has several documents."""
        return cls.parse(_text(file), file)

    @classmethod
    def read_all(cls, file: Path) -> tuple[Self, ...]:
        """The documents of a file, at least one: what stands between lines of `---`."""
        return cls.parse_all(_text(file), file)

    @classmethod
    def parse(cls, text: str, file: Path) -> Self:
        first, *more = cls.parse_all(text, file)
        if more:
            raise InputError(f"{more[0].where()}: a second document begins here; keep one")
        return first

    @classmethod
    def parse_all(cls, text: str, file: Path) -> tuple[Self, ...]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            roots = list(YAML(typ="rt").load_all(text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise InputError(f"{file}{line}: {_first_line(error.problem) or 'not valid YAML'}") from None
        except YAMLError as error:
            raise InputError(f"{file}: {_first_line(str(error))}") from None
        # Nothing stands before a first `---` or behind a last one.
        roots = [root for root in roots if root is not None] or [None]
        found = []
        for root in roots:
            lines: dict[Keys, int] = {}
            data = _plain(root, (), lines)
            if len(roots) > 1:
                lines[()] = root.lc.line + 1 if hasattr(root, "lc") else 1
            found.append(cls(file, data, lines))
        return tuple(found)

    def where(self, keys: Iterable[str | int] = ()) -> str:
        """`file:line` of a key, or of the nearest key above it that has one."""
        path = tuple(keys)
        while path and path not in self.lines:
            path = path[:-1]
        if path and self.lines[path] == 0:
            return f"--set {dotted(path)}"
        return f"{self.file}:{self.lines[path]}" if path in self.lines else str(self.file)

    @property
    def home(self) -> Path:
        """The folder that the document's relative paths mean: its own, or for a run's config.yaml that of the config it
        came from."""
        origin = self.data.get("origin") if isinstance(self.data, dict) else None
        recorded = origin.get("folder") if isinstance(origin, dict) else None
        return Path(recorded if isinstance(recorded, str) else self.file.parent).resolve()

    def error(self, keys: Iterable[str | int], message: str) -> InputError:
        """An InputError about a key: `file:line: a.b: message`."""
        path = tuple(keys)
        place, name = self.where(path), dotted(path)
        if name and not place.endswith(f" {name}"):
            place = f"{place}: {name}"
        return InputError(f"{place}: {message}")

    def override(self, assignments: Iterable[str]) -> Self:
        """The document with each `a.b=value` applied; values are YAML. Raises InputError where it cannot."""
        data, lines = _copied(self.data), dict(self.lines)
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            keys: Keys = tuple(int(k) if k.isdigit() else k for k in name.strip().split("."))
            if not equals or "" in keys:
                raise InputError(f"--set {assignment}: write key=value, such as search.generations=5")
            value = type(self).parse(text, Path(f"--set {name.strip()}")).data
            _assign(data, keys, value, assignment)
            lines = {k: v for k, v in lines.items() if k[: len(keys)] != keys} | {keys: 0}
        return type(self)(self.file, data, lines)

    def validate(self, model: type[Model]) -> Model:
        """The document as `model`; all that is wrong becomes one InputError, a line each, in the file's order."""
        if not isinstance(self.data, dict):
            raise InputError(f"{self.where()}: must be a mapping of keys to values")
        try:
            return model.model_validate(self.data)
        except ValidationError as failed:
            errors = failed.errors(include_url=False)
            missing: dict[Keys, list[Keys]] = {}
            for error in errors:
                if error["type"] == "missing":
                    missing.setdefault(error["loc"][:-1], []).append(error["loc"])
            found = [(self._line(keys[0]), self._lacking(keys)) for keys in missing.values()]
            others = (error for error in errors if error["type"] != "missing")
            found += [(self._line(_keys(error)), self._mistake(error)) for error in others]
            raise joined([error for _, error in sorted(found, key=lambda pair: pair[0])]) from None

    def _line(self, keys: Keys) -> int:
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 0)

    def _lacking(self, keys: Sequence[Keys]) -> InputError:
        """keys: those that one section lacks."""
        *others, last = (f"'{dotted(key)}'" for key in keys)
        what = f"keys {', '.join(others)} and {last} are" if others else f"key {last} is"
        return InputError(f"{self.where(keys[0])}: the {what} missing")

    def _mistake(self, error: "ErrorDetails") -> InputError:
        keys = _keys(error)
        if error["type"] == "unknown_key":
            *section, _ = keys
            return InputError(f"{self.where(keys)}: {f'{dotted(section)}: ' if section else ''}{error['msg']}")
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] not in ("value_error", "misfit") and isinstance(error["input"], str | int | float | None):
            message += f", not {error['input']!r}"
        return self.error(keys, message[:1].lower() + message[1:])


def _keys(error: "ErrorDetails") -> Keys:
    """The path to what an error is about."""
    context = error.get("ctx", {})
    inner = (context["key"],) if error["type"] == "unknown_key" else ()
    return (*error["loc"], *context.get("keys", ()), *inner)


def dotted(keys: Iterable[str | int]) -> str:
    """`objectives.0.data`."""
    return ".".join(str(key) for key in keys)


def write_yaml(data: Any) -> str:
    """Plain Python as YAML 1.2 text, keys in their order."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 120
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def write_documents(documents: Sequence[Any]) -> str:
    """Several documents as the text of one file."""
    return "---\n".join(map(write_yaml, documents))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if (text or "").strip() else ""


def _plain(node: Any, path: Keys, lines: dict[Keys, int]) -> Any:
    """ruamel's round-trip nodes, which know their lines, as plain Python."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(node, CommentedMap):
        plain = {}
        for key, value in node.items():
            position: Keys = (*path, key)
            lines[position] = node.lc.key(key)[0] + 1 if key in (node.lc.data or {}) else lines.get(path, 1)
            plain[_scalar(key)] = _plain(value, position, lines)
        return plain
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            lines[(*path, index)] = node.lc.item(index)[0] + 1
        return [_plain(value, (*path, index), lines) for index, value in enumerate(node)]
    return _scalar(node)


def _scalar(node: Any) -> Any:
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    # A date is the text it was written as; `null` is None; ruamel's own booleans are ints.
    return node if node is None else str(node)


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


def _assign(data: Any, keys: Keys, value: Any, assignment: str) -> None:
    target = data
    for depth, key in enumerate(keys):
        above, last = dotted(keys[:depth]), depth == len(keys) - 1
        if isinstance(target, list):
            if not isinstance(key, int) or key >= len(target):
                raise InputError(f"--set {assignment}: '{above}' is a list of {len(target)} without a place '{key}'")
        elif not isinstance(target, dict):
            raise InputError(f"--set {assignment}: '{above}' holds no keys")
        if last:
            target[key] = value
        else:
            if isinstance(target, dict) and target.get(key) is None:
                target[key] = {}
            target = target[key]
