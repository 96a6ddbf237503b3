"""The merge of a tile by the implementation that is asked for."""

from collections.abc import Sequence
from typing import Any

from jax import Array

from jaxmerge.kernels import choice
from jaxmerge.kernels.merge_tile.form import Form, Values


def merge_tile(
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    dtype: Any = "float32",
    implementation: str | None = None,
) -> Array:
    """Merges aligned pieces of tensors, elementwise in float32: what `linear`, `task_arithmetic`, `ties`, `dare_linear`
    and `dare_ties` do, bit for bit.

    base, sources: K + 1 arrays of one shape, float32, bfloat16 or bfloat16's bits as uint16; without a base the sources
    are averaged. keys: uint32 `[K, 2]`, of the masks; rows: uint32 `[*shape[:-1]]`, the tensor's row of each row
    (default: consecutive from 0): both for the trim "random" only. dtype: of the result.
    implementation: "reference" (XLA), "pallas_tpu", "pallas_gpu", None for the platform's default; see `choice`.
    The kernels are not differentiable.
    """
    return choice.run(
        "merge_tile.merge_tile", implementation, base, sources, values, form, keys=keys, rows=rows, dtype=dtype
    )
