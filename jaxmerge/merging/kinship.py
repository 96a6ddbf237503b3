"""Moments of task vectors, streamed from disk: norms, and how alike they are."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDING = re.compile(r"embed|wte|wpe")
BLOCK = 1 << 20


@dataclass
class Moments:
    """Sums over elements in float64, K models: `count`, `base_square`, and by model `sums`, `absolute`,
    `changed` [K], `products` of deltas and squared `distances` between them [K, K]. Two can be added."""

    count: int
    base_square: float
    sums: np.ndarray
    absolute: np.ndarray
    changed: np.ndarray
    products: np.ndarray
    distances: np.ndarray

    @classmethod
    def zero(cls, models: int) -> "Moments":
        one, two = np.zeros(models), np.zeros((models, models))
        return cls(0, 0.0, one, one.copy(), one.copy(), two, two.copy())

    @classmethod
    def of(cls, base: np.ndarray, deltas: np.ndarray) -> "Moments":
        """Of a block: base `[n]`, deltas `[K, n]`, float64."""
        return cls(
            base.size,
            float(base @ base),
            deltas.sum(axis=1),
            np.abs(deltas).sum(axis=1),
            np.count_nonzero(deltas, axis=1).astype(float),
            deltas @ deltas.T,
            np.array([[np.square(a - b).sum() for b in deltas] for a in deltas]),
        )

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.base_square + other.base_square,
            self.sums + other.sums,
            self.absolute + other.absolute,
            self.changed + other.changed,
            self.products + other.products,
            self.distances + other.distances,
        )

    def delta(self, model: int) -> dict[str, float | None]:
        """Size of one model's delta."""
        norm, base = math.sqrt(self.products[model, model]), math.sqrt(self.base_square)
        return {
            "norm": norm,
            "mean_absolute": ratio(float(self.absolute[model]), self.count),
            "changed": ratio(float(self.changed[model]), self.count),
            "relative": ratio(norm, base),
        }

    def kinship(self) -> dict[str, list[list[float | None]]]:
        """Pearson's correlation, cosine and Euclidean distance of every two deltas."""
        centred = self.products - np.outer(self.sums, self.sums) / max(self.count, 1)
        return {
            "pearson": _normalised(centred),
            "cosine": _normalised(self.products),
            "euclidean": np.sqrt(self.distances).tolist(),
        }


def group_of(name: str) -> str:
    """`embedding`, `layer 7` or `head` (with the final norm and what else is outside of the layers)."""
    layer = LAYER.search(name)
    if layer:
        return f"layer {int(layer[1])}"
    return "embedding" if EMBEDDING.search(name) else "head"


def shared_tensors(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Names of the floating-point tensors that all have in one shape: embedding, layers by number, head."""
    first, *others = checkpoints
    names = [
        name
        for name, info in first.tensors.items()
        if info.dtype.kind not in "biu"
        and all(name in other.tensors and other.tensors[name].shape == info.shape for other in others)
    ]
    return in_order(names)


def in_order(names: Iterable[str]) -> list[str]:
    """Embedding, layers by number, head; in each the order given."""
    return sorted(names, key=_order)


def measure_deltas(
    base: Checkpoint,
    models: Sequence[Checkpoint],
    progress: Callable[[int, int], None] | None = None,
    blocks_of_each: int | None = None,
) -> dict[str, Moments]:
    """Moments by group. CheckpointError where a tensor has NaN or infinite values.

    blocks_of_each: of a larger tensor only as many blocks of rows (about a million elements each), evenly spread.
    """
    groups: dict[str, Moments] = {}
    names = shared_tensors([base, *models])
    for done, name in enumerate(names, 1):
        group = group_of(name)
        for block in blocks([base, *models], name, blocks_of_each):
            moments = Moments.of(block[0], block[1:] - block[0])
            groups[group] = groups.get(group, Moments.zero(len(models))) + moments
        if progress:
            progress(done, len(names))
    return groups


def blocks(checkpoints: list[Checkpoint], name: str, most: int | None = None) -> Iterator[np.ndarray]:
    """A tensor of all checkpoints by blocks of rows, at most `most` of them: float64 `[checkpoints, n]`.
    CheckpointError where one has NaN or infinite values."""
    shape = checkpoints[0].tensors[name].shape
    rows = shape[0] if shape else 1
    step = max(1, BLOCK // max(1, math.prod(shape[1:])))
    starts = range(0, rows, step)
    if most is not None and len(starts) > most:
        starts = starts[:: -(-len(starts) // most)]
    for start in starts:
        parts = []
        for checkpoint in checkpoints:
            part = checkpoint.read_rows(name, start, start + step) if shape else checkpoint.read(name)
            require_finite(f"{checkpoint.tensors[name].file}: tensor '{name}'", part)
            parts.append(part.reshape(-1).astype(np.float64))
        yield np.stack(parts)


def _order(name: str) -> tuple[int, int]:
    group = group_of(name)
    if group.startswith("layer "):
        return 1, int(group.removeprefix("layer "))
    return (0, 0) if group == "embedding" else (2, 0)


def _normalised(products: np.ndarray) -> list[list[float | None]]:
    sizes = np.sqrt(np.maximum(np.diag(products), 0))
    return [
        [ratio(float(value), float(a * b)) for value, b in zip(row, sizes, strict=True)]
        for row, a in zip(products, sizes, strict=True)
    ]


def ratio(a: float, b: float) -> float | None:
    """a / b, None where b is zero."""
    return a / b if b else None
