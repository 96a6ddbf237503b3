"""Reading numbers and switches from a config.json, with errors that name the key."""

from typing import Any

from jaxmerge.errors import InputError

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


def positive_int(config_json: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number above zero. A missing or null key gives `default`; without one it is an InputError."""
    value = config_json.get(key)
    if value is None:
        value = default
    if value is None:
        raise InputError(f"config.json: the key {key!r} is missing; a model cannot be built without it")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"config.json: {key!r} is {value!r}; it must be a whole number above zero")
    return value


def positive_float(config_json: dict[str, Any], key: str, default: float) -> float:
    """A number above zero; a missing or null key gives `default`."""
    value = config_json.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"config.json: {key!r} is {value!r}; it must be a number above zero")
    return float(value)


def switch(config_json: dict[str, Any], key: str, default: bool) -> bool:
    """true or false; a missing or null key gives `default`."""
    value = config_json.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InputError(f"config.json: {key!r} is {value!r}; it must be true or false")
    return value


def activation(config_json: dict[str, Any]) -> str:
    """The name of the activation function; one that the decoder lacks is an InputError."""
    name = config_json.get("hidden_act") or "silu"
    if name not in ACTIVATIONS:
        raise InputError(f"config.json: 'hidden_act' is {name!r}; known are {', '.join(ACTIVATIONS)}")
    return name
