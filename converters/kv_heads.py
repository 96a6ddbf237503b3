"""A checkpoint with more key and value heads, which computes what it computed before.

In grouped-query attention (Ainslie et al., 2023, arXiv:2305.13245, section 2.2) a KV head serves several query heads in
a row. Copied to stand several times in a row, each copy serves a part of them, and every query head reads what it read.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.reference import Location
from jaxmerge.errors import InputError

AXIS = "kv_heads"  # of the rows of a table


@dataclass(frozen=True)
class RepeatedHeads(Checkpoint):
    """config, tensors: with all copies. Nothing else changes, dtypes neither; a tensor is repeated when it is read.

    model: as it is. repeated: the tensors with a row for each element of a KV head. times: how often each head is
    there. head_dim: its rows."""

    model: Checkpoint = field(repr=False)
    repeated: frozenset[str] = field(repr=False)
    times: int
    head_dim: int

    @property
    def location(self) -> Location:
        return self.model.location

    def read(self, name: str) -> np.ndarray:
        if name not in self.repeated:
            return self.model.read(name)
        return self.read_rows(name, 0, self.info(name).shape[0])

    def view(self, name: str) -> np.ndarray:
        """Mapped from the file where nothing is repeated; else an array of its own."""
        return self.read(name) if name in self.repeated else self.model.view(name)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        if name not in self.repeated:
            return self.model.read_rows(name, start, stop)
        head, row = np.divmod(np.arange(self.info(name).shape[0])[start:stop], self.head_dim)
        rows = head // self.times * self.head_dim + row
        first, end = (rows.min(), rows.max() + 1) if rows.size else (0, 0)
        return self.model.read_rows(name, int(first), int(end))[rows - first]


def with_kv_heads(model: Checkpoint, count: int) -> Checkpoint:
    """The model with `count` KV heads; itself where it has so many. Only headers are looked at.

    Raises InputError where the model's own number does not divide `count` or `count` not that of its query heads, and
    where its architecture is unknown."""
    try:
        architecture = architecture_of(model.config)
        config = architecture.read(model.config)
    except InputError as error:
        raise InputError(f"{model.folder}: {error}") from error
    own = config.num_kv_heads
    if own == count:
        return model
    if count % own or config.num_heads % count:
        raise InputError(
            f"{model.folder}: num_key_value_heads is {own}, which cannot be repeated to {count} for "
            f"{config.num_heads} attention heads"
        )
    rows = [parameter for parameter in architecture.table(config) if parameter.axes[0] == AXIS]
    names = frozenset(name for parameter in rows for name in parameter.names(config.num_layers))
    times = count // own
    infos = {name: model.info(name) for name in names}
    changed = {name: replace(i, shape=(times * i.shape[0], *i.shape[1:])) for name, i in infos.items()}
    tensors = {name: changed.get(name, info) for name, info in model.tensors.items()}
    config_json = model.config | {"num_key_value_heads": count}
    return RepeatedHeads(model.folder, config_json, tensors, model, names, times, config.head_dim)
