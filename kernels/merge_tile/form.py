"""What merges of the family differ in, and the numbers of one merge."""

from dataclasses import dataclass
from typing import Any, Literal

import jax

Trim = Literal["none", "magnitude", "random"]


@dataclass(frozen=True)
class Form:
    """trim: which elements of a task vector stay: all; those of at least a threshold (TIES); those whose draw of the
    mask field lies below a bound (DARE). elect: whether signs are elected.

    `Form()` is task arithmetic, and a weighted average where there is no base.
    """

    trim: Trim = "none"
    elect: bool = False


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Values:
    """The numbers of one merge of K sources, those that the form asks for. Of P merges, each has a leading axis P.

    weight: float32 `[K]`. scale: float32 `[]`, of the merged task vector. normalize: `[]`, divides by the weights that
    took part where it is not 0. threshold: float32 `[K]`, the smallest magnitude that stays. below: uint32 `[K]`, what
    draws are below (`mask_field.keep_below`). ratio: float32 `[K]`, what elements that stay are multiplied with.
    """

    weight: Any
    scale: Any = 1.0
    normalize: Any = 0.0
    threshold: Any = None
    below: Any = None
    ratio: Any = None
