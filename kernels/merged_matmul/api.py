"""The merged matmul by the implementation that is asked for."""

from collections.abc import Sequence

from jax import Array

from jaxmerge.kernels import choice
from jaxmerge.kernels.merge_tile.form import Form, Values


def merged_matmul(
    x: Array,
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    implementation: str | None = None,
) -> Array:
    """`y[p] = x[p] @ merge_tile(base, sources, values[p]).T` for P candidates: `[P, T, out]` in the dtype of x.

    x: `[P, T, in]`, float32 or bfloat16. base, sources, keys, rows: as in `merge_tile`, of shape `[out, in]`, the same
    for all candidates. values: with a leading axis P (scale and normalize may be one number for all). What is merged is
    rounded to the dtype of x, as the engine does; sums are in float32.
    implementation: "reference" (XLA), "pallas_tpu", "pallas_gpu", None for the platform's default; see `choice`.
    The kernels are not differentiable, and sum in another order than XLA.
    """
    return choice.run(
        "merged_matmul.merged_matmul", implementation, x, base, sources, values, form, keys=keys, rows=rows
    )
