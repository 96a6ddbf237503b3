"""Fresh parameters, for training from scratch."""

import hashlib

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxmerge.architectures.table import Table
from jaxmerge.models.weights import Params


def initial_params(
    table: Table,
    key: Array,
    *,
    embedding_std: float = 0.02,
    std: float = 0.02,
    zero: tuple[str, ...] = (),
    dtype: DTypeLike = jnp.float32,
) -> Params:
    """Normal matrices, norms of one, biases of zero.

    embedding_std is for `embed_tokens.weight`, std for every other matrix. zero: paths that start at zero (say
    `layers.self_attn.o_proj.weight`, so that a block starts as the identity). A tensor's values depend on the key and
    on its path only.
    """
    unknown = set(zero) - {parameter.path for parameter in table}
    if unknown:
        raise KeyError(f"no parameter is called {sorted(unknown)[0]}")

    def values(path: str, shape: tuple[int, ...]) -> Array:
        if path in zero or path.endswith(".bias"):
            return jnp.zeros(shape, dtype)
        if path.endswith("norm.weight"):
            return jnp.ones(shape, dtype)
        name = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
        scale = embedding_std if path == "embed_tokens.weight" else std
        return (scale * jax.random.normal(jax.random.fold_in(key, name), shape, jnp.float32)).astype(dtype)

    return {parameter.path: values(parameter.path, table.shape(parameter)) for parameter in table}
