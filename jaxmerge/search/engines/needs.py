"""What a candidate needs of a device's memory, in bytes, from shapes alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.converters.safetensors_header import TensorInfo
from jaxmerge.models.attention import SCORES_AT_ONCE
from jaxmerge.models.likelihood import vocabulary_block
from jaxmerge.models.slots import Slots, columns
from jaxmerge.objectives.interface import Batch, Bucket
from jaxmerge.operators.interface import Operator
from jaxmerge.population.runner import micro_batches
from jaxmerge.runtime.placement import divided_axes
from jaxmerge.search.config import BASE

FLOAT32 = 4
# Of the sources.
HOMES = ("device", "sharded", "host")


@dataclass(frozen=True)
class Needs:
    """Bytes, undivided. Of all sources, with what an operator prepares for each element: bank, all of it; layer, one
    layer; ends, the part of what is in no layer that is there at once, where it comes from the host.

    Of each candidate at once: merged, one merged layer; model, a whole one; activations, of a micro-batch;
    logits, of a block of the head; cache, keys and values of what is written (0: nothing is written); stream, the
    states of all texts between two layers; written, by home, the weights that one has of its own while it writes.
    chunk: candidates at once. sources: in words. config, table: of what runs.
    """

    sources: str
    bank: int
    layer: int
    ends: int
    merged: int
    model: int
    activations: int
    logits: int
    cache: int
    stream: int
    written: Mapping[str, int]
    chunk: int
    config: DecoderConfig
    table: Table

    def held(self, size: int, model: int, *, of_layers: bool = False) -> int:
        """What each of `model` devices holds of weights of this many bytes: some tensors are whole on all. of_layers:
        of weights of layers alone."""
        divided, whole, mine = divided_axes(self.config, model), 0, 0
        for parameter in self.table:
            if parameter.stacked or not of_layers:
                count = math.prod(self.table.shape(parameter))
                whole += count
                mine += count // model if divided.intersection(parameter.axes) else count
        return -(-size * mine // whole)

    def cached(self, model: int) -> int:
        """What each of `model` devices holds of the cache."""
        return self.cache // model if "kv_heads" in divided_axes(self.config, model) else self.cache


def needs_of(
    config: DecoderConfig,
    table: Table,
    sources: Mapping[str, Mapping[str, TensorInfo]],
    dtype: np.dtype,
    *,
    chunk: int,
    operator: Operator | None = None,
    texts: Sequence[Sequence[Batch]] = (),
    prompts: Sequence[tuple[Batch, int]] = (),
    cache: np.dtype | None = None,
) -> Needs:
    """sources: tensors by the name of each model, from their headers. dtype: of what is merged. texts: what is
    scored, together where a list holds several batches; prompts: what is continued, and by how many tokens. cache: of
    keys and values; None: dtype."""
    whole = sum(math.prod(table.shape(p)) for p in table)
    one_layer = sum(math.prod(p.shape) for p in table if p.stacked)
    experts = len(sources) - (BASE in sources)
    fields = operator.element_bytes(experts) if operator else 0
    scored = [_micro(bucket) for batches in texts for batch in batches for bucket in batch.buckets]
    written = [(_slots(bucket), bucket.tokens.shape[1], new) for batch, new in prompts for bucket in batch.buckets]
    positions = max((rows * length for rows, length in scored), default=0)
    sizes = [[sum(bucket.tokens.size for bucket in batch.buckets) for batch in batches] for batches in texts]
    # Those of several objectives wait together only where there is room for it.
    tokens, looked_up = max(chain(*sizes), default=0), max(map(sum, sizes), default=0)
    head = vocabulary_block(config.vocab_size, positions)
    row = _stored(table, sources, lambda p: not p.stacked and len(p.shape) == 2, 0) // config.vocab_size
    running = [*scored, *((slots.prefill, length) for slots, length, _ in written)]
    return Needs(
        sources=_in_words(sources, experts, whole),
        bank=sum(info.nbytes for tensors in sources.values() for info in tensors.values()) + fields * whole,
        layer=_stored(table, sources, lambda p: p.stacked, 0) + fields * one_layer,
        # The rows of the embedding that the tokens ask for, or two blocks of the head.
        ends=(row + fields * config.hidden_size) * min(config.vocab_size, max(looked_up, 2 * head)),
        merged=one_layer * dtype.itemsize,
        model=whole * dtype.itemsize,
        activations=max((_activations(config, dtype, *shape) for shape in running), default=0),
        logits=max(
            2 * FLOAT32 * positions * head,
            max((2 * FLOAT32 * slots.count * config.vocab_size for slots, _, _ in written), default=0),
        ),
        cache=max((_cache(config, cache or dtype, slots, columns(*shape)) for slots, *shape in written), default=0),
        stream=tokens * config.hidden_size * dtype.itemsize,
        written=dict.fromkeys(HOMES, whole * dtype.itemsize) if written else {},
        chunk=chunk,
        config=config,
        table=table,
    )


def _stored(
    table: Table, sources: Mapping[str, Mapping[str, TensorInfo]], chosen: Callable[[Parameter], bool], layer: int
) -> int:
    """Bytes of the chosen rows of the table in all sources, of one layer where they are stacked."""
    names = [p.names(table.num_layers)[layer if p.stacked else 0] for p in table if chosen(p)]
    return sum(tensors[name].nbytes for tensors in sources.values() for name in names if name in tensors)


def _micro(bucket: Bucket) -> tuple[int, int]:
    """Rows and length of a micro-batch."""
    count, length = bucket.tokens.shape
    return micro_batches(count, length)[1], length


def _activations(config: DecoderConfig, dtype: np.dtype, rows: int, length: int) -> int:
    """Of the widest place of a layer: the stream and its norm, gate, up and their product; or queries, keys and values
    with the scores of attention and their softmax in float32."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    scores = min(rows * config.num_heads * length**2, SCORES_AT_ONCE)
    tokens = rows * length
    attention = heads * tokens * dtype.itemsize + 3 * FLOAT32 * scores
    feed_forward = 3 * config.intermediate_size * tokens * dtype.itemsize
    return 3 * config.hidden_size * tokens * dtype.itemsize + max(attention, feed_forward)


def _slots(bucket: Bucket) -> Slots:
    """Of the prompts of a bucket, with the rows that fill up its micro-batches."""
    count, length = bucket.tokens.shape
    return Slots.of(math.prod(micro_batches(count, length)), length)


def _cache(config: DecoderConfig, dtype: np.dtype, slots: Slots, columns: int) -> int:
    each = 2 * config.num_layers * config.num_kv_heads * columns * config.head_dim * dtype.itemsize
    return slots.count * each


def _in_words(sources: Mapping[str, Mapping[str, TensorInfo]], experts: int, parameters: int) -> str:
    """`base + 3 x 6.74B bfloat16`."""
    stored = {info.dtype.name for tensors in sources.values() for info in tensors.values()}
    size = f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"
    return f"{'base + ' if BASE in sources else ''}{experts} x {size} {'/'.join(sorted(stored))}"
