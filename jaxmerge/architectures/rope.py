"""Reading the rotary embedding of a config.json: `rope_parameters`, or the older `rope_theta` and `rope_scaling`.

The rules are those of transformers 5: a `rope_scaling` that is not empty stands in for `rope_parameters`, and a
`rope_theta` inside wins over the one beside it.
"""

from typing import Any

from jaxmerge.architectures.config import Rope
from jaxmerge.architectures.reading import positive_float
from jaxmerge.errors import InputError

DEFAULT_THETA = 10_000.0

REQUIRED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
}


def read_rope(config_json: dict[str, Any], max_positions: int) -> Rope:
    """The rotary embedding of a decoder whose layers all share one. An unknown type, a missing number and a
    rotation of only a part of the head are InputErrors."""
    parameters = config_json.get("rope_scaling") or config_json.get("rope_parameters") or {}
    if not isinstance(parameters, dict):
        raise InputError(f"config.json: the rope parameters are {parameters!r}; they must be a mapping")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in REQUIRED:
        raise InputError(f"config.json: unknown rope type {kind!r}; known are {', '.join(REQUIRED)}")
    theta = positive_float(parameters, "rope_theta", positive_float(config_json, "rope_theta", DEFAULT_THETA))
    for partial in (parameters.get("partial_rotary_factor"), config_json.get("partial_rotary_factor")):
        if partial not in (None, 1, 1.0):
            raise InputError(f"config.json: 'partial_rotary_factor' is {partial!r}; only 1.0 is known for this family")
    options: dict[str, Any] = {}
    for key in REQUIRED[kind]:
        if parameters.get(key) is None:
            raise InputError(f"config.json: a rope of type {kind!r} needs {key!r}")
        options[key] = positive_float(parameters, key, 1.0)
    for key in OPTIONAL.get(kind, ()):
        if parameters.get(key) is not None:
            options[key] = parameters[key]
    if kind in ("yarn", "llama3"):
        inside = positive_float(parameters, "original_max_position_embeddings", max_positions)
        options["original_max_position_embeddings"] = positive_float(
            config_json, "original_max_position_embeddings", inside
        )
    return Rope(theta=theta, kind=kind, options=tuple(sorted(options.items())))
