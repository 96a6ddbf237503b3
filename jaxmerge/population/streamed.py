"""A population whose sources lie on the host, as objectives see it.

Likelihoods run in layer-major order: a layer of all sources comes to the devices while the one before it is computed,
is merged and applied for every candidate that waits, and goes. A call reads the sources once for as many candidates as
may wait at a time, and the likelihoods of several objectives are one call. Text is written by whole models, a block of
candidates at a time, merged layer by layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jaxmerge.architectures.table import Parameter
from jaxmerge.models.decoder import head_path
from jaxmerge.models.likelihood import Running, vocabulary_block
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Batch
from jaxmerge.population import layer_major
from jaxmerge.population.entropies import entropies
from jaxmerge.population.layer_major import EMBEDDING, NORM, Streams
from jaxmerge.population.mapped import MappedMerging
from jaxmerge.population.merged import Merging, Values
from jaxmerge.population.programs import Rows, Shape, continuations
from jaxmerge.population.runner import Candidates, Programs, alone, first
from jaxmerge.runtime.mesh import POP, own_row, place, replicated


class Streamed(Programs):
    """Implements what `runner.Programs` does, but gradients. waiting: bytes of a device that the streams of waiting
    candidates may take; one block always may wait."""

    def __init__(self, shape: Shape, merging: MappedMerging, waiting: int) -> None:
        super().__init__(shape, layer_major.Written())
        self.merging, self.waiting = merging, waiting

    def candidates(self, values: dict[str, np.ndarray]) -> "StreamedCandidates":
        return StreamedCandidates(self, values)

    def put(self, piece: Merging) -> Merging:
        """A piece on every device."""
        return jax.tree.map(partial(place, sharding=replicated(self.shape.mesh)), piece)

    def through(self, pieces: Sequence[Callable[[], Merging]], use: Callable[[int, Merging], object]) -> None:
        """Calls `use` with the number of every piece and its sources on the devices, where two are at most: the next
        one comes while what `use` gives back is computed, and that is waited for."""
        ahead = self.put(pieces[0]())
        for number in range(len(pieces)):
            here = ahead
            working = use(number, here)
            if number + 1 < len(pieces):
                ahead = self.put(pieces[number + 1]())
            jax.block_until_ready(working)

    @property
    def layers(self) -> list[Callable[[], Merging]]:
        return [partial(self.merging.layer, layer) for layer in range(self.merging.bank.table.num_layers)]

    def model(self, values: dict[str, np.ndarray]) -> Params:
        shape = replace(self.shape, mesh=own_row(self.shape.mesh), chunk=1)
        here = Streamed(shape, self.merging, self.waiting)
        return first(here.models(alone(here, values)))

    def models(self, values: Values) -> Params:
        """A block of whole models, `[block, ...]` by path. values: `[block, ...]`."""
        table = self.merging.bank.table
        models = {p.path: self._empty(table.shape(p)) for p in table if p.stacked}

        def write(layer: int, piece: Merging) -> Params:
            nonlocal models
            models = layer_major.written_layer(self.shape, piece, values, jnp.int32(layer), models)
            return models

        self.through(self.layers, write)
        for parameter in table:
            if not parameter.stacked:
                models[parameter.path] = self._end(parameter, values)
        return models

    def _end(self, parameter: Parameter, values: Values) -> Array:
        piece = self.put(self.merging.part(parameter.path))
        return jax.block_until_ready(layer_major.written(self.shape, parameter.path, piece, values))

    def _empty(self, shape: tuple[int, ...]) -> Array:
        sharding = NamedSharding(self.shape.mesh, PartitionSpec(POP))
        return jnp.zeros((self.shape.block, *shape), self.shape.dtype, device=sharding)


class StreamedCandidates(Candidates):
    """Implements `objectives.interface.Runner`."""

    _programs: Streamed

    def likelihood(self, batch: Batch) -> np.ndarray:
        return self._through([batch], max(1, self._programs.waiting // self._stream(batch)))[0]

    def likelihoods(self, batches: Sequence[Batch]) -> list[np.ndarray]:
        """Of several batches, for which the sources are read once where the streams of all may wait together."""
        wave = self._programs.waiting // sum(map(self._stream, batches))
        return self._through(batches, wave) if wave else [self.likelihood(batch) for batch in batches]

    def _through(self, batches: Sequence[Batch], wave: int) -> list[np.ndarray]:
        """wave: blocks of candidates that wait at a time."""
        outs = [np.zeros((self.size, batch.size), np.float32) for batch in batches]
        placed = [self._programs.placed(batch) for batch in batches]
        starts = range(0, self.size, self._programs.shape.block)
        for begin in range(0, len(starts), wave):
            these = starts[begin : begin + wave]
            found = _likelihoods(self._programs, tuple(chain(*placed)), list(map(self.block, these)))
            for start, sums in zip(these, found, strict=True):
                left = iter(sums)
                for out, batch, rows in zip(outs, batches, placed, strict=True):
                    self._fill(out, batch, start, list(islice(left, len(rows))))
        return outs

    def _stream(self, batch: Batch) -> int:
        """Bytes of a device that a block of candidates waits in."""
        shape = self._programs.shape
        positions = sum(rows[0].size for rows in self._programs.placed(batch))
        return shape.chunk * positions * shape.config.hidden_size * np.dtype(shape.dtype).itemsize

    def entropy(self, batch: Batch) -> np.ndarray:
        def call(values: Values) -> tuple[Array, ...]:
            p = self._programs
            return entropies(p.shape, p.population, p.models(values), p.placed(batch))

        return self._gather(batch, call, np.zeros((self.size, batch.size), np.float32))

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        def call(values: Values) -> tuple[Array, ...]:
            p = self._programs
            return continuations(
                p.shape, p.population, p.models(values), p.placed(batch), max_new_tokens, stop_ids
            )

        return self._gather(batch, call, np.full((self.size, batch.size, max_new_tokens), -1, np.int32))


def _likelihoods(programs: Streamed, buckets: tuple[Rows, ...], blocks: list[Values]) -> list[list[Array]]:
    """See `programs.likelihoods`: of each block of candidates, for each bucket."""
    shape = programs.shape
    streams = _embedded(programs, buckets, blocks)
    valid = tuple(rows[1] for rows in buckets)

    def advance(layer: int, piece: Merging) -> list[Streams]:
        for number, values in enumerate(blocks):
            streams[number] = layer_major.through_layer(shape, piece, values, jnp.int32(layer), valid, streams[number])
        return streams

    programs.through(programs.layers, advance)
    norm = programs.put(programs.merging.part(NORM))
    ready = [layer_major.normed(shape, norm, values, mine) for values, mine in zip(blocks, streams, strict=True)]
    streams.clear()
    del norm
    sums: list[list[Array]] = [[] for _ in blocks]
    for number, (tokens, _, counted) in enumerate(buckets):
        xs = [by_bucket[number][0] for by_bucket in ready]
        running = [by_bucket[number][1] for by_bucket in ready]
        _through_head(programs, tokens, blocks, xs, running)
        for block, mine in enumerate(running):
            sums[block].append(layer_major.sums(mine, counted))
    return sums


def _embedded(programs: Streamed, buckets: tuple[Rows, ...], blocks: list[Values]) -> list[Streams]:
    merging, vocab = programs.merging, programs.shape.config.vocab_size
    tokens = [np.asarray(rows[0].addressable_data(0)) for rows in buckets]
    ids = np.arange(vocab)
    if merging.cuts_rows:
        # As many as there are tokens, whatever they are: one program for all draws of one shape.
        used = np.unique(np.concatenate([array.ravel() for array in tokens]))
        room = min(vocab, sum(array.size for array in tokens))
        ids = np.concatenate([used, np.full(room - len(used), used[-1])])
    everywhere = partial(place, sharding=replicated(programs.shape.mesh))
    places = tuple(everywhere(np.searchsorted(ids, array).astype(np.int32)) for array in tokens)
    piece = programs.put(merging.part(EMBEDDING, ids if merging.cuts_rows else None))
    rows = everywhere(ids.astype(np.uint32))
    return [
        jax.block_until_ready(layer_major.embedded(programs.shape, piece, values, rows, places)) for values in blocks
    ]


def _through_head(
    programs: Streamed, tokens: Array, blocks: list[Values], xs: list[Array], running: list[Running]
) -> None:
    """Takes `running` over all rows of the head."""
    shape, merging = programs.shape, programs.merging
    path, vocab = head_path(shape.config), shape.config.vocab_size
    size = vocabulary_block(vocab, xs[0].shape[2])
    firsts = range(0, vocab, size)

    def add(number: int, piece: Merging) -> list[Running]:
        first = jnp.int32(firsts[number])
        for block, values in enumerate(blocks):
            running[block] = layer_major.with_rows(
                shape, path, size, piece, values, first, tokens, xs[block], running[block]
            )
        return running

    if merging.cuts_rows:
        starts = [min(first, vocab - size) for first in firsts]
        programs.through([partial(merging.part, path, slice(start, start + size)) for start in starts], add)
    else:
        whole = programs.put(merging.part(path))
        for number in range(len(firsts)):
            add(number, whole)
