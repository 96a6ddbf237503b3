"""Which layers of a Qwen decoder look back only a window of tokens."""

from typing import Any

from jaxmerge.architectures.reading import positive_int, switch
from jaxmerge.errors import InputError

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_window(config_json: dict[str, Any]) -> int | None:
    """The window of those layers that have one; None where there are no windows."""
    has_key = "sliding_window" in config_json
    if switch(config_json, "use_sliding_window", False) and not (has_key and config_json["sliding_window"] is None):
        return positive_int(config_json, "sliding_window", 4096)
    return None


def read_layer_types(config_json: dict[str, Any]) -> list[str] | None:
    """What `layer_types` says, or would say; None where there are no windows."""
    if layer_window(config_json) is None:
        return None
    return [FULL if window is None else SLIDING for window in read_layer_windows(config_json)]


def read_layer_windows(config_json: dict[str, Any]) -> tuple[int | None, ...]:
    """For each layer its window in tokens, or None. `layer_types` decides where it is given; else the layers from
    `max_window_layers` on are windowed. Without `use_sliding_window` there are no windows."""
    num_layers = positive_int(config_json, "num_hidden_layers")
    window = layer_window(config_json)
    kinds = config_json.get("layer_types")
    if kinds is None:
        first = config_json.get("max_window_layers", 28)
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise InputError(f"config.json: 'max_window_layers' is {first!r}; it must be a whole number")
        return tuple(window if i >= first else None for i in range(num_layers))
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise InputError(f"config.json: 'layer_types' must name the attention of each of the {num_layers} layers")
    for kind in kinds:
        if kind not in (FULL, SLIDING):
            raise InputError(f"config.json: 'layer_types' has {kind!r}; known are {FULL} and {SLIDING}")
        if kind == SLIDING and window is None:
            raise InputError(
                f"config.json: 'layer_types' has {SLIDING}, but 'use_sliding_window' is not true or "
                "'sliding_window' is null; set both, or write full_attention"
            )
    return tuple(window if kind == SLIDING else None for kind in kinds)
