"""The references of a recipe in plain Python: which there are, and the same recipe with others in their place."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Keys under which a reference stands, `{model: {path, revision}, lora}` and the sources of tokens included.
REFERENCES = ("model", "base_model", "tokenizer_source", "source", "path", "lora")
# Under these keys there are none.
OTHERS = ("parameters", "jaxmerge", "chat_template")
# Between a model and its LoRA, of which each is a path or `org/name`.
PLUS = re.compile(r"\+(?=[\w.-]*/)")


def parts(reference: str) -> list[str]:
    """The model that a reference names, and its LoRA if it has one."""
    return PLUS.split(reference)


def is_here(reference: str, home: Path) -> bool:
    """Whether all that is local in a reference, by a path that is absolute or begins with `..`, is there."""
    paths = [Path(part) for part in parts(reference) if Path(part).is_absolute() or part.startswith("..")]
    return all((home / path).exists() for path in paths)


def references_in(recipe: Any) -> tuple[str, ...]:
    """What a recipe calls its models and tokenizers, each once. Special sources (`union`, `base`) are among them."""
    found: dict[str, None] = {}

    def note(reference: str) -> str:
        found[reference] = None
        return reference

    renamed(recipe, note)
    return tuple(found)


def renamed(recipe: Any, name: Callable[[str], str]) -> Any:
    """The recipe with `name(reference)` for each reference."""
    if isinstance(recipe, list):
        return [renamed(item, name) for item in recipe]
    if not isinstance(recipe, dict):
        return recipe

    def value(key: str, item: Any) -> Any:
        if key in OTHERS:
            return item
        return name(item) if key in REFERENCES and isinstance(item, str) else renamed(item, name)

    return {key: value(key, item) for key, item in recipe.items()}
