"""A population as objectives see it: P candidates that can be asked for likelihoods and text."""

from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Batch, Bucket, Reference
from jaxmerge.population.entropies import entropies
from jaxmerge.population.gradients import gradients
from jaxmerge.population.jacobian import jacobian
from jaxmerge.population.merged import Merging, Values
from jaxmerge.population.programs import (
    Population,
    Rows,
    Shape,
    continuations,
    likelihoods,
    merged_block,
    merged_parameters,
)
from jaxmerge.population.split import is_split
from jaxmerge.runtime.mesh import POP, fetch, on_row, own_row, place, replicated

# Tokens of one micro-batch. A layer is merged once a micro-batch, so it must not be small; activations grow with it.
MICRO_TOKENS = 16_384
# Batches kept on the devices. Drawn samples make a new one every generation; a race has one a block.
KEPT_BATCHES = 64


def micro_batches(count: int, length: int, share: int = 1) -> tuple[int, int]:
    """How many micro-batches a bucket of `count` rows is run in, and of how many rows each. share: see `Shape`."""
    micro = -(-count // max(1, min(count, MICRO_TOKENS // (length * share))))
    # Spread evenly: 65 rows at 64 a micro-batch are 33 and 32, not 64 and 1.
    return micro, -(-count // micro)


class Programs:
    """What candidates share and the programs over it; makes runners for populations.

    Batches are placed on the devices once and kept.
    """

    def __init__(self, shape: Shape, population: Population) -> None:
        self.shape, self.population = shape, population
        self._placed: dict[int, tuple[Batch, tuple[Rows, ...]]] = {}

    def candidates(self, values: dict[str, np.ndarray]) -> "Candidates":
        """values: what the population makes weights of, `[P, ...]` each."""
        return Candidates(self, values)

    def at_once(self, chunk: int) -> Self:
        """The same with `chunk` candidates at once on a device; batches stay where they are."""
        changed = copy(self)
        changed.shape = replace(self.shape, chunk=chunk)
        return changed

    def gradient(
        self, values: dict[str, np.ndarray], reference: Reference
    ) -> tuple[float, dict[str, np.ndarray]]:
        """See `gradients.gradients`, over all of a batch. values: of one candidate."""
        batch, shares = reference.batch, reference.shares
        sum, by_value = 0.0, {name: np.zeros(array.shape, np.float64) for name, array in values.items()}
        for bucket, rows in zip(batch.buckets, self.placed(batch), strict=True):
            # The rows that fill up a bucket or a micro-batch have no share.
            flat = np.zeros(rows[0].shape[0] * rows[0].shape[1], np.float32)
            real = np.flatnonzero(bucket.index >= 0)
            flat[real] = shares[bucket.index[real]]
            placed = flat.reshape(rows[0].shape[:2])
            found = gradients(self.shape, self.population, values, rows, placed, reference.quantity)
            part, parts = fetch(found, self.shape.mesh)
            sum += float(part)
            by_value = {name: array + parts[name] for name, array in by_value.items()}
        return sum, by_value

    def jacobian(
        self, values: dict[str, np.ndarray], reference: Reference
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Of every sequence of a batch its quantity, float32 `[N]`, and the gradient of it by the values of one
        candidate, `[N, ...]` each. See `jacobian.jacobian`."""
        batch = reference.batch
        sums = np.zeros(batch.size, np.float32)
        by_value = {name: np.zeros((batch.size, *array.shape), np.float32) for name, array in values.items()}
        for bucket, rows in zip(batch.buckets, self.placed(batch), strict=True):
            found = jacobian(self.shape, self.population, values, rows, reference.quantity)
            part, parts = fetch(found, self.shape.mesh)
            real = np.flatnonzero(bucket.index >= 0)
            sums[bucket.index[real]] = part[real]
            for name, array in by_value.items():
                array[bucket.index[real]] = parts[name][real]
        return sums, by_value

    def model(self, values: dict[str, np.ndarray]) -> Params:
        """One merge's whole model as it is scored, stacked over layers, on a device of this process. values: of one
        candidate."""
        merging = self.population
        assert isinstance(merging, Merging)
        if not is_split(merging):
            # Of several processes those of a row merge for themselves: what all sources have in common lies there.
            row = replicated(own_row(self.shape.mesh))
            return merged_parameters(on_row(merging, self.shape.mesh), {n: place(v, row) for n, v in values.items()})
        # Every device gathers what it merges, so that all make the same one.
        shape = replace(self.shape, chunk=1)
        return first(merged_block(shape, merging, alone(Programs(shape, merging), values)))

    def placed(self, batch: Batch) -> tuple[Rows, ...]:
        key = id(batch)
        if key not in self._placed:
            while len(self._placed) >= KEPT_BATCHES:
                self._placed.pop(next(iter(self._placed)))
            # The batch is kept with its arrays: an id is only good while its object lives.
            self._placed[key] = (batch, tuple(self._rows(bucket) for bucket in batch.buckets))
        return self._placed[key][1]

    def _rows(self, bucket: Bucket) -> Rows:
        count, length = bucket.tokens.shape
        micro, rows = micro_batches(count, length, self.shape.share)

        def cut(array: np.ndarray) -> Array:
            filled = np.concatenate([array, np.repeat(array[-1:], micro * rows - count, axis=0)])
            return place(filled.reshape(micro, rows, length), replicated(self.shape.mesh))

        # A row that only fills the shape has no token: nothing is written after it.
        real = bucket.valid & (bucket.index >= 0)[:, None]
        return cut(bucket.tokens), cut(real), cut(bucket.counted)


def alone(programs: Programs, values: dict[str, np.ndarray]) -> Values:
    """A block that is filled up with one candidate."""
    return programs.candidates({name: np.asarray(array)[None] for name, array in values.items()}).block(0)


def first(models: Params) -> Params:
    """The first model of a block, as this process's own."""
    return {path: array.addressable_data(0)[0] for path, array in models.items()}


class Candidates:
    """P candidates; implements `objectives.interface.Runner`.

    They run in blocks of the programs' size, a last block filled up with copies, so that every P is served by the same
    compiled program.
    """

    def __init__(self, programs: Programs, values: dict[str, np.ndarray]) -> None:
        self._programs, self._values = programs, values

    @property
    def size(self) -> int:
        return next(iter(self._values.values())).shape[0]

    def likelihood(self, batch: Batch) -> np.ndarray:
        def call(values: Values) -> tuple[Array, ...]:
            p = self._programs
            return likelihoods(p.shape, p.population, values, p.placed(batch))

        return self._gather(batch, call, np.zeros((self.size, batch.size), np.float32))

    def entropy(self, batch: Batch) -> np.ndarray:
        def call(values: Values) -> tuple[Array, ...]:
            p = self._programs
            return entropies(p.shape, p.population, values, p.placed(batch))

        return self._gather(batch, call, np.zeros((self.size, batch.size), np.float32))

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        def call(values: Values) -> tuple[Array, ...]:
            p = self._programs
            return continuations(p.shape, p.population, values, p.placed(batch), max_new_tokens, stop_ids)

        return self._gather(batch, call, np.full((self.size, batch.size, max_new_tokens), -1, np.int32))

    def _gather(self, batch: Batch, call: Any, out: np.ndarray) -> np.ndarray:
        for start in range(0, self.size, self._programs.shape.block):
            self._fill(out, batch, start, call(self.block(start)))
        return out

    def _fill(self, out: np.ndarray, batch: Batch, start: int, results: Any) -> None:
        """Writes what a block of candidates from `start` on gave for each bucket."""
        block = self._programs.shape.block
        stop = min(start + block, self.size)
        for bucket, result in zip(batch.buckets, fetch(results, self._programs.shape.mesh), strict=True):
            rows = result.reshape(block, -1, *result.shape[3:])[: stop - start, : len(bucket.index)]
            real = bucket.index >= 0
            out[start:stop, bucket.index[real]] = rows[:, real]

    def block(self, start: int) -> Values:
        """The values of a block of candidates from `start` on, divided over the devices."""
        shape = self._programs.shape
        sharding = NamedSharding(shape.mesh, PartitionSpec(POP))
        places = np.minimum(np.arange(start, start + shape.block), self.size - 1)
        return {name: place(array[places], sharding) for name, array in self._values.items()}
