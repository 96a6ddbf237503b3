"""How a model's arrays are divided over the devices of one candidate: by the logical axes of its table."""

import math
from dataclasses import dataclass

import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.errors import InputError
from jaxmerge.runtime.mesh import MODEL, place

# The logical axes that are divided over `model` where it divides that number of a config. All others, such as those of
# norms, are whole on every device.
RULES = {"heads": "num_heads", "kv_heads": "num_kv_heads", "mlp": "intermediate_size", "vocab": "vocab_size"}
# Those without which nothing would be gained.
REQUIRED = ("heads", "mlp")


@dataclass(frozen=True)
class Placement:
    """Puts arrays onto a mesh. divided: the logical axes that are divided over `model`; all of `pop` have the same."""

    mesh: Mesh
    divided: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: DecoderConfig, mesh: Mesh) -> "Placement":
        """Raises InputError where a model of these sizes cannot be divided so."""
        model = mesh.shape[MODEL]
        if model == 1:
            return cls(mesh)
        _require_divisible(config, model)
        return cls(mesh, divided_axes(config, model))

    @property
    def vocabulary_shards(self) -> int:
        """See `models.weights.Weights`."""
        return self.mesh.shape[MODEL] if "vocab" in self.divided else 1

    def sharding(self, axes: tuple[str, ...] = ()) -> NamedSharding:
        """axes: the logical axes of an array, none where it is whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec(*(MODEL if axis in self.divided else None for axis in axes)))

    def __call__(self, array: np.ndarray, axes: tuple[str, ...] = ()) -> Array:
        """A host's array on the devices. An axis of size 1 is never divided."""
        named = tuple(axis if size > 1 else "" for axis, size in zip(axes, array.shape, strict=False))
        return place(array, self.sharding(named))


def divided_axes(config: DecoderConfig, model: int) -> frozenset[str]:
    """The logical axes that are divided over `model`."""
    return frozenset(axis for axis, size in RULES.items() if getattr(config, size) % model == 0)


def model_axes(config: DecoderConfig, devices: int) -> tuple[int, ...]:
    """The sizes that `model` can have, ascending."""
    return tuple(model for model in range(1, devices + 1) if devices % model == 0 and _divides(config, model))


def _divides(config: DecoderConfig, model: int) -> bool:
    # Where there are more devices than heads of keys, each has those that its heads of queries read.
    shared = config.num_kv_heads % model == 0 or model % config.num_kv_heads == 0
    return shared and all(getattr(config, RULES[axis]) % model == 0 for axis in REQUIRED)


def _require_divisible(config: DecoderConfig, model: int) -> None:
    if _divides(config, model):
        return
    most = math.gcd(config.num_heads, config.intermediate_size)
    usable = ", ".join(str(size) for size in range(1, most + 1) if _divides(config, size))
    raise InputError(
        f"runtime.mesh: model: {model} does not divide num_attention_heads, {config.num_heads}, num_key_value_heads, "
        f"{config.num_kv_heads}, and intermediate_size, {config.intermediate_size}; it may be {usable}"
    )
