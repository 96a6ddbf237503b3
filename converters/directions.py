"""Random low-rank directions around a model, each of which reads as the model with a LoRA would.

A direction adds to every matrix W a product E = step * B A of matrices of random signs, B `[out, r]` and A `[r, in]`:
the perturbations of EGGROLL (Sarkar et al. 2025, arXiv:2511.16652), which are of rank r and in sum of any rank. The
step, which belongs to B, makes the root mean square of E a share of that of W. Signs in place of Gaussian numbers, and
a step of few binary digits, make every element of E exact in float32 in whichever order it is summed: a direction has
the same bits from the same seed wherever it is drawn, and from the files that it is written to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from jaxmerge.converters.adapted import Adapted
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.lora import Product, Stored
from jaxmerge.converters.lora_writer import NewLora
from jaxmerge.converters.safetensors_header import TensorInfo

FLOAT32 = np.dtype(np.float32)
# Binary digits of a step: what up to 4096 of them add up to is exact in the 24 of a float32.
DIGITS = 12
HIGHEST_RANK = 1 << (24 - DIGITS)


@dataclass(frozen=True)
class Drawn(Stored):
    """A tensor that lies in no file."""

    draw: Callable[[], np.ndarray] = field(repr=False, compare=False)

    def read(self) -> np.ndarray:
        return self.draw()


@dataclass(frozen=True)
class Directions:
    """matrices: names of the tensors that are changed. rank: of each product, up to HIGHEST_RANK. reach: the root mean
    square of what is added, as a share of that of the matrix. seed: whole numbers; other seeds have other directions.
    """

    model: Checkpoint
    matrices: tuple[str, ...]
    rank: int
    reach: float
    seed: tuple[int, ...]
    _steps: dict[str, np.float32] = field(default_factory=dict, init=False, repr=False, compare=False)

    def reading(self, index: int, name: str) -> Adapted:
        """The model with one direction at its full length, by `name`. Nothing is drawn or read before a tensor is."""
        products = {matrix: self._product(index, matrix) for matrix in self.matrices}
        model = self.model
        return Adapted(model.folder, model.config, model.tensors, Path(name), products, {}, {})

    def write(self, index: int, folder: Path, base: str) -> None:
        """One direction as a PEFT folder, which must be there. base: a reference of the model."""
        lora = NewLora(base)
        for matrix in self.matrices:
            lora.products[_module(matrix)] = self._a(index, matrix), self._b(index, matrix)
        lora.write(folder, tuple(lora.products), FLOAT32)

    def _product(self, index: int, matrix: str) -> Product:
        out, into = self.model.info(matrix).shape

        def drawn(shape: tuple[int, int], draw: Callable[[int, str], np.ndarray]) -> Drawn:
            info = TensorInfo(FLOAT32, shape, self.model.info(matrix).file, 0)
            return Drawn(matrix, info, lambda: draw(index, matrix))

        return Product(drawn((self.rank, into), self._a), drawn((out, self.rank), self._b), 1.0, transposed=False)

    def _a(self, index: int, matrix: str) -> np.ndarray:
        return self._signs(index, matrix, "A", (self.rank, self.model.info(matrix).shape[1]))

    def _b(self, index: int, matrix: str) -> np.ndarray:
        return self._signs(index, matrix, "B", (self.model.info(matrix).shape[0], self.rank)) * self._step(matrix)

    def _signs(self, index: int, matrix: str, side: str, shape: tuple[int, int]) -> np.ndarray:
        random = np.random.default_rng([*self.seed, index, crc32(f"{matrix} {side}".encode())])
        return np.where(random.integers(0, 2, shape, np.uint8), np.float32(1), np.float32(-1))

    def _step(self, matrix: str) -> np.float32:
        """Sums of `rank` products of signs have a variance of `rank`."""
        if matrix not in self._steps:
            array = self.model.read(matrix)
            require_finite(f"{self.model.info(matrix).file}: tensor '{matrix}'", array)
            size = math.sqrt(np.mean(np.square(array.astype(np.float32, copy=False)), dtype=np.float64))
            fraction, exponent = math.frexp(self.reach * size / math.sqrt(self.rank))
            self._steps[matrix] = np.float32(math.ldexp(round(fraction * 2**DIGITS), exponent - DIGITS))
        return self._steps[matrix]


def _module(matrix: str) -> str:
    return matrix.removesuffix(".weight")
