"""How two checkpoints differ, tensor by tensor, streamed from disk."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.reference import resolve
from jaxmerge.merging.kinship import blocks, group_of, in_order, ratio


@dataclass(frozen=True)
class Difference:
    """Sums over elements in float64 of two tensors a and b, `squares` of each and of b - a; `largest` of |b - a|;
    `equal`: elements of one value. Two can be added."""

    count: int = 0
    equal: int = 0
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    product: float = 0.0
    largest: float = 0.0

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> "Difference":
        """Of a block of each, float64 `[n]`."""
        delta = b - a
        return cls(
            a.size,
            int(a.size - np.count_nonzero(delta)),
            (float(a @ a), float(b @ b), float(delta @ delta)),
            float(a @ b),
            float(np.abs(delta).max(initial=0.0)),
        )

    def __add__(self, other: "Difference") -> "Difference":
        a, b, delta = (one + two for one, two in zip(self.squares, other.squares, strict=True))
        return Difference(
            self.count + other.count,
            self.equal + other.equal,
            (a, b, delta),
            self.product + other.product,
            max(self.largest, other.largest),
        )

    def figures(self) -> dict[str, Any]:
        """elements, cosine of a and b, relative: norm of b - a by the norm of a, largest: |b - a|, equal: share of the
        elements. None where a norm is zero or there are no elements."""
        a, b, delta = map(math.sqrt, self.squares)
        # Rounding may carry the cosine of a tensor with itself beyond 1.
        cosine = ratio(self.product, a * b)
        return {
            "elements": self.count,
            "cosine": None if cosine is None else 1.0 if self.equal == self.count else max(-1.0, min(1.0, cosine)),
            "relative": ratio(delta, a),
            "largest": self.largest,
            "equal": ratio(self.equal, self.count),
        }


def diff(a: str, b: str, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Compare two checkpoints of any architecture by the names of their tensors; plain values, ready for JSON.

    a, b: folders or hub ids, either with a LoRA (`model+lora`). Keys: `a` and `b`; `tensors`, a dictionary for each
    that both have in one shape: `name`, `group`, `shape`, `dtypes` of the two, and the figures of `Difference.figures`;
    `total`, these figures over all of them; `shapes`: names and shapes of tensors that differ in it; `only_in_a`,
    `only_in_b`: names. Integers are compared by value too. progress: called with tensors done and in all.
    Tensors are read by blocks of rows. Raises as `resolve` and `open_checkpoint`, CheckpointError for NaN or infinity.
    """
    one, two = (open_checkpoint(resolve(ref, relative_to=[Path()])) for ref in (a, b))
    both = in_order(name for name in one.tensors if name in two.tensors)
    alike = [name for name in both if one.tensors[name].shape == two.tensors[name].shape]
    total, tensors = Difference(), []
    for done, name in enumerate(alike, 1):
        found = sum((Difference.of(*block) for block in blocks([one, two], name)), start=Difference())
        total += found
        tensors.append(_described(name, one, two) | found.figures())
        if progress:
            progress(done, len(alike))
    return {
        "a": a,
        "b": b,
        "total": total.figures(),
        "tensors": tensors,
        "shapes": [
            {"name": name, "shapes": [list(one.tensors[name].shape), list(two.tensors[name].shape)]}
            for name in both
            if name not in alike
        ],
        "only_in_a": in_order(name for name in one.tensors if name not in two.tensors),
        "only_in_b": in_order(name for name in two.tensors if name not in one.tensors),
    }


def _described(name: str, a: Checkpoint, b: Checkpoint) -> dict[str, Any]:
    return {
        "name": name,
        "group": group_of(name),
        "shape": list(a.tensors[name].shape),
        "dtypes": [a.tensors[name].dtype.name, b.tensors[name].dtype.name],
    }
