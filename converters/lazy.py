"""Arrays that are read from disk when they are written elsewhere, one at a time: so a model larger than memory is
converted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jax import Array


@dataclass(frozen=True)
class LazyArray:
    """`load()` reads the array to the host; it is called when the array is needed, and what it gives is not kept."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]


AnyParams = Mapping[str, Array | LazyArray]
