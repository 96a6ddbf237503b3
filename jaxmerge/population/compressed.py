"""A bank of a base and compressed task vectors, for pools of many experts: a candidate over it is an approximation.

`int8` keeps of each element a whole number from -127 to 127, times a number of its row. `bit` keeps its sign, times the
mean magnitude of its row: of all numbers the best in squares (BitDelta, arXiv 2402.10193, which has one for a tensor).
Vectors are small, and kept as they are. What is merged next is cut first, as of any bank, and only that is widened.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.operators.arithmetic import rounded, widen, widened
from jaxmerge.population.bank import Place, Source, stack
from jaxmerge.population.split import Held

Compression = Literal["int8", "bit"]
LARGEST = 127
# Experts whose signs share a byte: read once for all of them, and the columns of a row stay in their places.
SIGNS = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Compressed:
    """A matrix's task vectors, stacked or not. codes: int8 `[..., R, C]` an expert; or uint8, one for 8 experts, whose
    bits say from the lowest on which elements of each are not negative. scales: float32 `[..., R]` an expert."""

    codes: tuple[Array, ...]
    scales: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.scales)

    def task_vectors(self, cut: Callable[[Held], Array]) -> tuple[Array, ...]:
        """What `cut` takes of each, in float32."""
        codes = [cut(array) for array in self.codes]
        scales = [cut(scale)[..., None] for scale in self.scales]
        if codes[0].dtype == jnp.int8:
            return tuple(rounded(scale * code.astype(jnp.float32)) for scale, code in zip(scales, codes, strict=True))
        signs = [codes[k // SIGNS] >> np.uint8(k % SIGNS) & np.uint8(1) for k in range(len(scales))]
        return tuple(jnp.where(sign == 1, scale, -scale) for scale, sign in zip(scales, signs, strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CompressedBank:
    """What `bank.Bank` is, whole on every device, by path. experts: those of matrices compressed."""

    base: dict[str, Array]
    experts: dict[str, Compressed | tuple[Array, ...]]
    vocabulary_shards: int = field(default=1, metadata={"static": True})

    @property
    def count(self) -> int:
        return len(next(iter(self.experts.values())))

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))

    def shape(self, path: str) -> tuple[int, ...]:
        """See `bank.Bank`."""
        return self.base[path].shape

    def widened(self, path: str, cut: Callable[[Held], Array]) -> tuple[Array, tuple[Array, ...]]:
        """See `bank.Bank`."""
        base, held = widen(cut(self.base[path])), self.experts[path]
        if isinstance(held, Compressed):
            return base, tuple(base + vector for vector in held.task_vectors(cut))
        return base, tuple(widen(cut(expert)) for expert in held)


def load_compressed(
    table: Table, base: Source, experts: Sequence[Source], kind: Compression, place: Place
) -> CompressedBank:
    """Reads every source into place; of the experts one stacked tensor of one byte an element is on the host at a time.
    """
    bases: dict[str, Array] = {}
    held: dict[str, Compressed | tuple[Array, ...]] = {}
    for parameter in table:
        bases[parameter.path] = stack(table, parameter, base, place)
        if is_compressed(parameter):
            held[parameter.path] = _compressed(table, parameter, base, experts, kind, place)
        else:
            held[parameter.path] = tuple(stack(table, parameter, expert, place) for expert in experts)
    return CompressedBank(bases, held, place.vocabulary_shards)


def is_compressed(parameter: Parameter) -> bool:
    return len(parameter.shape) == 2


def compressed_bytes(shape: Sequence[int], experts: int, kind: Compression) -> int:
    """Of the task vectors of a matrix, from its whole shape."""
    codes = experts if kind == "int8" else -(-experts // SIGNS)
    rows = int(np.prod(shape[:-1]))
    return rows * (shape[-1] * codes + 4 * experts)


def quantised(vector: np.ndarray, kind: Compression) -> tuple[np.ndarray, np.ndarray]:
    """A task vector float32 `[R, C]` as int8 numbers, or as bools that say what is not negative, and the scale of each
    row, float32 `[R]`."""
    if kind == "bit":
        return vector >= 0, np.abs(vector).mean(axis=1, dtype=np.float32)
    scales = np.abs(vector).max(axis=1) / np.float32(LARGEST)
    steps = vector / np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.rint(steps).clip(-LARGEST, LARGEST).astype(np.int8), scales


def _compressed(
    table: Table, parameter: Parameter, base: Source, experts: Sequence[Source], kind: Compression, place: Place
) -> Compressed:
    layers, (rows, columns) = len(parameter.names(table.num_layers)), table.shape(parameter)[-2:]
    codes, scales = [], []
    for group in _groups(experts, 1 if kind == "int8" else SIGNS):
        code = np.zeros((layers, rows, columns), np.int8 if kind == "int8" else np.uint8)
        scale = np.zeros((len(group), layers, rows), np.float32)
        for layer, name in enumerate(parameter.names(table.num_layers)):
            own = widened(base.read(name))
            for k, expert in enumerate(group):
                found, scale[k, layer] = quantised(widened(expert.read(name)) - own, kind)
                code[layer] |= found if kind == "int8" else found.astype(np.uint8) << k
        codes.append(place(code if parameter.stacked else code[0]))
        scales += [place(each if parameter.stacked else each[0]) for each in scale]
    return Compressed(tuple(codes), tuple(scales))


def _groups(experts: Sequence[Source], size: int) -> Iterator[Sequence[Source]]:
    for start in range(0, len(experts), size):
        yield experts[start : start + size]
