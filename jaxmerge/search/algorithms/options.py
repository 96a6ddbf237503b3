"""`search.options` of our own algorithms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxmerge.errors import InputError, unknown


@dataclass(frozen=True)
class Option:
    """A number with its default and bounds; whole where the default is an int."""

    default: float
    low: float
    high: float


def read_options(given: Mapping[str, Any], known: Mapping[str, Option], name: str) -> dict[str, Any]:
    """Every option's value. Raises InputError for an unknown one, and for a value that is no number in its bounds."""
    for key in given:
        if key not in known:
            raise unknown("option", key, known, f"search.options: {name}")
    return {key: _value(given.get(key, option.default), option, key) for key, option in known.items()}


def _value(value: Any, option: Option, key: str) -> Any:
    whole = isinstance(option.default, int)
    wanted = f"a {'whole number' if whole else 'number'} in [{option.low:g}, {option.high:g}]"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InputError(f"search.options.{key}: must be {wanted}, not {value!r}")
    if not option.low <= value <= option.high:
        raise InputError(f"search.options.{key}: {value:g} is not {wanted}")
    return value
