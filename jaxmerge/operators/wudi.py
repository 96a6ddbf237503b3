"""WUDI: a merged task vector that interferes least with each task, whose own vectors span what it responds to.

Of task vectors t_i `[out, in]` the loss of x is `sum_i |(x - t_i) t_i^T|^2 / |t_i|^2`. Its gradient, `2 (x A - B)` with
`A = sum_i t_i^T t_i / |t_i|^2` and `B = sum_i t_i t_i^T t_i / |t_i|^2`, costs one product a step however many tasks.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.interface import Operator, Parameter, Prepared, Request, Sources
from jaxmerge.operators.task_matrices import average, norms, parts_of, scaled
from jaxmerge.operators.task_vector import SCALE


@jax.jit
def least_interfering(deltas: Array, steps: Array, rate: Array) -> Array:
    """Adam's x after so many steps from the sum of the task vectors."""
    import optax  # it would slow down the start of every merge

    sizes = norms(deltas)[..., None]
    unit = deltas / jnp.where(sizes > 0, sizes, 1)
    spans = jnp.einsum("koi,koj->kij", unit, unit)
    a, b = spans.sum(axis=0), jnp.einsum("koi,kij->oj", deltas, spans)
    adam = optax.scale_by_adam()

    def step(_: Array, state: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        x, moments = state
        update, moments = adam.update(2 * (x @ a - b), moments)
        return x - rate * update, moments

    start = deltas.sum(axis=0)
    found: Array = jax.lax.fori_loop(0, steps, step, (start, adam.init(start)))[0]
    return found[None]


def prepare(sources: Sources, request: Request) -> Prepared:
    steps, rate = int(request.grid["steps"][0][0]), float(request.grid["learning_rate"][0][0])
    return parts_of(sources, request, lambda d: least_interfering(d, jnp.int32(steps), jnp.float32(rate)), average)


OPERATOR = Operator(
    "wudi",
    "The task vector of each linear layer that interferes least with every model, found by Adam from their sum; other "
    "tensors averaged.",
    scaled,
    (
        Parameter("steps", "steps of Adam", 300, kind="integer", low=0, gridded=True, fixed=True),
        Parameter("learning_rate", "how far a step goes at most", 1e-5, low=0.0, gridded=True, fixed=True),
        SCALE,
    ),
    prepare,
    needs_base=True,
    shared_field_bytes=4,
    paper="Cheng et al. 2025, Whoever Started the Interference Should End It, arXiv:2503.08099",
)
