"""Settings: what a recipe may write for a parameter, and its value for one tensor.

A setting is a scalar, a list (a gradient over the layers), `{filter, value}`, or a list of these. A filter is a
substring of the output tensor's name; `*` or none matches all. The first rule that matches counts; where none
does, the next level of the recipe is asked.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Rule:
    """values: one, or a gradient's. filter: None matches every tensor."""

    values: tuple[Scalar, ...]
    filter: str | None = None


Setting = tuple[Rule, ...]


def parse_setting(value: Any) -> Setting:
    """Raises ValueError saying what is wrong."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return tuple(_parse_rule(item) for item in value)
    return (_parse_rule(value),)


def _parse_rule(value: Any) -> Rule:
    if not isinstance(value, dict):
        return Rule(_parse_values(value))
    if unknown := set(value) - {"filter", "value"}:
        raise ValueError(f"unknown key '{min(unknown)}'; a conditional setting has 'filter' and 'value'")
    if "value" not in value:
        raise ValueError("the key 'value' is missing")
    text = value.get("filter")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"a filter is a part of a tensor's name, not {text!r}")
    return Rule(_parse_values(value["value"]), None if text in (None, "*") else text)


def _parse_values(value: Any) -> tuple[Scalar, ...]:
    values = tuple(value) if isinstance(value, list) else (value,)
    if not values:
        raise ValueError("a gradient needs at least one value")
    for item in values:
        if not isinstance(item, Scalar):
            raise ValueError(f"must be a number, a flag, a list of them or {{filter, value}}, not {item!r}")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"must be finite, not {item}")
    return values


def evaluate(setting: Setting, tensor: str, place: Fraction) -> Scalar | None:
    """The value for a tensor at `place` (0 for the first layer of its slice, 1 for the last), or None if no rule
    matches.
    """
    for rule in setting:
        if rule.filter is None or rule.filter in tensor:
            return _at(rule.values, place)
    return None


def _at(values: tuple[Scalar, ...], place: Fraction) -> Scalar:
    # Exact arithmetic: a gradient with one value a layer gives each layer its very value.
    position = place * (len(values) - 1)
    lower = int(position)
    value = values[lower]
    if position == lower or isinstance(value, bool | str):
        return value
    above = values[lower + 1]
    if isinstance(above, bool | str):
        return value
    part = float(position - lower)
    return (1 - part) * value + part * above
