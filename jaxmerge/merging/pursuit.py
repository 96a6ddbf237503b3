"""Orthogonal matching pursuit (Pati et al. 1993): a vector as a sum of few of many others, for many vectors at once."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

# What is left of a target is nothing but rounding below this share of it, and an atom adds nothing to those chosen.
NOTHING = 1e-6


@partial(jax.jit, static_argnames="k")
def pursue(targets: Array, atoms: Array, k: int) -> tuple[Array, Array]:
    """At most k atoms for each target, and their coefficients: int32 and float32 `[B, k]`.

    targets: `[B, d]`, atoms `[n, d]`, float32. k <= n. One after another that atom is chosen whose inner product with
    what is left is the largest in size; the coefficients of all are those of least squares, by an orthonormal basis
    that grows with them. Once nothing is left, the remaining coefficients are zero.
    """
    return jax.vmap(partial(_pursue, atoms=atoms, k=k))(targets)


def _pursue(target: Array, atoms: Array, k: int) -> tuple[Array, Array]:
    dimensions, enough = target.shape[0], NOTHING * jnp.linalg.norm(target)

    def step(carry: tuple[Array, Array, Array, Array], place: Array) -> tuple[tuple[Array, Array, Array, Array], Array]:
        rest, free, basis, triangle = carry
        alignment = jnp.abs(_dot(atoms, rest))
        chosen = jnp.argmax(jnp.where(free, alignment, -1.0))
        atom = atoms[chosen]
        # Twice is enough for full orthogonality (Giraud et al. 2005).
        along = _dot(basis, atom)
        own = atom - _dot(along, basis)
        again = _dot(basis, own)
        own, along = own - _dot(again, basis), along + again
        length = jnp.linalg.norm(own)
        useful = (jnp.linalg.norm(rest) > enough) & (length > NOTHING * jnp.linalg.norm(atom))
        direction = jnp.where(useful, own / jnp.where(useful, length, 1.0), 0.0)
        column = jnp.where(useful, along.at[place].set(length), jnp.zeros(k).at[place].set(1.0))
        rest = rest - direction * _dot(direction, rest)
        carry = rest, free.at[chosen].set(False), basis.at[place].set(direction), triangle.at[:, place].set(column)
        return carry, chosen.astype(jnp.int32)

    start = target, jnp.ones(len(atoms), bool), jnp.zeros((k, dimensions)), jnp.zeros((k, k))
    (_, _, basis, triangle), chosen = lax.scan(step, start, jnp.arange(k))
    coefficients = jax.scipy.linalg.solve_triangular(triangle, _dot(basis, target))
    return chosen, coefficients


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
