"""Every slot of a data-flow space on the path at once, each through a gate: what a gradient can follow.

A gate g scales what a layer's attention and feed-forward parts add to the stream. At 1 the layer is on the path, at 0
it is not, and in between `h + g (block(h) - h)` up to the gate between the two parts. It is the fold of `routed` with
gates for factors.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxmerge.population.routed import Layers, Routed, Values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gating:
    """Implements `programs.Population`. layers: places in the bank of all hops, the first and the last of which have no
    gate. dtype: of the forward pass."""

    bank: Layers
    layers: tuple[int, ...] = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})

    def candidate(self, values: Values) -> Routed:
        """values: `gates`, float32 `[slots]`."""
        one = jnp.ones(1, jnp.float32)
        factors = jnp.concatenate([one, values["gates"], one])
        # The depth is no array: only a loop of known length has a gradient.
        layers = jnp.asarray(self.layers, jnp.int32)
        return Routed(self.bank, layers, layers, factors, factors[-1], len(self.layers), self.dtype)

    def resident(self, values: Values) -> Routed:
        return self.candidate(values)
