"""Groups: which parts of a model share one set of recipe parameters.

The embedding, the final norm and an untied head are groups of their own; a tied head belongs to the embedding.
`granularity` says how the blocks between them are divided: not at all, each layer, n layers together, or by filters
(substrings of the tensor's name, the first that matches; what matches none forms one more group).
"""

from dataclasses import dataclass

import numpy as np

from jaxmerge.architectures.table import Table
from jaxmerge.errors import InputError


@dataclass(frozen=True)
class Granularity:
    """block: layers that share a group, or None for all of them. filters: substrings that divide a block further.
    whole: the entire model, embeddings too, is one group."""

    block: int | None = 1
    filters: tuple[str, ...] = ()
    whole: bool = False

    @classmethod
    def parse(cls, value: object) -> "Granularity":
        """Reads `model`, `layer`, `{block: n}`, `{filters: [...]}` or `{block: n, filters: [...]}`."""
        if value == "model":
            return cls(whole=True)
        if value == "layer":
            return cls()
        if isinstance(value, dict) and value and set(value) <= {"block", "filters"}:
            block, filters = value.get("block"), value.get("filters", [])
            block_ok = block is None or (isinstance(block, int) and not isinstance(block, bool) and block >= 1)
            if block_ok and isinstance(filters, list) and all(isinstance(f, str) and f for f in filters):
                return cls(block=block, filters=tuple(filters))
        raise InputError(
            f"space.granularity: {value!r} is none of model, layer, {{block: n}}, {{filters: [...]}}, "
            "{block: n, filters: [...]}"
        )


@dataclass(frozen=True)
class Groups:
    """names: the groups, in the order of the model.
    members: for each path of the table the group's index, int32 `[L]` for a stacked path and `[]` for another."""

    names: tuple[str, ...]
    members: dict[str, np.ndarray]

    @classmethod
    def of(cls, table: Table, granularity: Granularity) -> "Groups":
        """Raises InputError where a filter matches no tensor of the blocks."""
        if granularity.whole:
            zeros = {p.path: np.zeros(table.num_layers if p.stacked else (), np.int32) for p in table}
            return cls(("model",), zeros)
        stacked = [p for p in table if p.stacked]
        for text in granularity.filters:
            if not any(text in name for p in stacked for name in p.names(table.num_layers)):
                raise InputError(f"space.granularity: the filter {text!r} matches no tensor of the model's layers")
        labels: dict[str, list[str] | str] = {}
        for parameter in table:
            if parameter.stacked:
                tensors = parameter.names(table.num_layers)
                labels[parameter.path] = [_block_label(name, i, table, granularity) for i, name in enumerate(tensors)]
            else:
                labels[parameter.path] = parameter.path.removesuffix(".weight")
        names = _in_model_order(labels, table)
        index = {name: i for i, name in enumerate(names)}
        members = {
            path: np.array([index[n] for n in label] if isinstance(label, list) else index[label], np.int32)
            for path, label in labels.items()
        }
        return cls(names, members)

    @classmethod
    def of_blocks(cls, table: Table, granularity: Granularity) -> "Groups":
        """The same for what changes blocks alone: the groups of blocks, of which the first and the last take in what
        stands before and behind them."""
        groups = cls.of(table, granularity)
        if granularity.whole:
            return groups
        kept = np.unique(np.concatenate([groups.members[p.path] for p in table if p.stacked]))
        members = {
            path: np.clip(np.searchsorted(kept, index), 0, len(kept) - 1).astype(np.int32)
            for path, index in groups.members.items()
        }
        return cls(tuple(groups.names[index] for index in kept), members)


def _block_label(name: str, layer: int, table: Table, granularity: Granularity) -> str:
    size = granularity.block or table.num_layers
    first = layer // size * size
    last = min(first + size, table.num_layers) - 1
    label = f"layers.{first}" if first == last else f"layers.{first}-{last}"
    if not granularity.filters:
        return label
    return f"{label}.{next((f for f in granularity.filters if f in name), 'other')}"


def _in_model_order(labels: dict[str, list[str] | str], table: Table) -> tuple[str, ...]:
    """Embedding, then the blocks by layer, then norm and head; the table's own order within each."""
    stacked = [label for label in labels.values() if isinstance(label, list)]
    blocks = [label[layer] for layer in range(table.num_layers) for label in stacked]
    plain = [label for label in labels.values() if isinstance(label, str)]
    first = [label for label in plain if label.startswith("embed")]
    return tuple(dict.fromkeys([*first, *blocks, *(label for label in plain if label not in first)]))
