"""JSONL files of examples, read with errors that name file and line."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.errors import InputError


@dataclass(frozen=True)
class Example:
    """fields: one line's object. where: `file:line`, for messages."""

    fields: dict[str, Any]
    where: str


def read_examples(path: Path, limit: int | None = None) -> list[Example]:
    """The first `limit` examples of a JSONL file, blank lines left out.

    Raises InputError for a file that is missing, empty or not UTF-8, and for a line that is not a JSON
    object."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct the path under data") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from None
    examples: list[Example] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            examples.append(Example(_parse(line, f"{path}:{number}"), f"{path}:{number}"))
        if limit is not None and len(examples) == limit:
            break
    if not examples:
        raise InputError(f"{path}: no examples; it must hold one JSON object a line")
    return examples


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); one object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, or too deep
        raise InputError(f"{where}: not JSON ({error}); one object a line") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: a {type(value).__name__}; each line must be a JSON object, in braces")
    return value
