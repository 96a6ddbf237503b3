"""The models of a data-flow or joint search: found, opened and held against one another before a weight is read."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table
from jaxmerge.architectures.windows import layer_window
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.fit import require_fit
from jaxmerge.converters.kv_heads import with_kv_heads
from jaxmerge.converters.model import layout_of
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.search.config import BASE, MERGED, EvolveConfig
from jaxmerge.search.engines.sources import (
    Models,
    open_references,
    require_same_layout,
    require_task_vectors,
    tokenizer_folder,
)
from jaxmerge.spaces.dataflow import Pool

# What a block is made of, and its name in config.json. Depth, vocabulary and tied embeddings may differ, and the number
# of KV heads where they can be repeated.
BLOCK = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_heads": "num_attention_heads",
    "head_dim": "head_dim",
    "norm_eps": "rms_norm_eps",
    "norm_offset": "what norms add to their weights",
    "activation": "hidden_act",
    "qkv_bias": "the bias of queries, keys and values",
    "output_bias": "the bias of attention's output",
    "mlp_bias": "mlp_bias",
    "qk_norm": "the norm of queries and keys",
    "rope": "the rotary embedding",
    "extra": "the architecture",
}


@dataclass(frozen=True)
class PooledModels(Models):
    """config, table: of the input model. companion: whose companions a path takes along: the input model, or where that
    is a merge the model that the merge is like. layouts: of every model of the pool in order, and of the base.
    own: the models whose KV heads are repeated, for all of the pool to have one number of them, as they are."""

    input: str
    companion: Checkpoint
    layouts: dict[str, tuple[DecoderConfig, Table]]
    own: dict[str, Checkpoint]

    @property
    def like(self) -> Checkpoint:
        return self.companion

    @property
    def pool(self) -> Pool:
        depths = {name: config.num_layers for name, (config, _) in self.layouts.items() if name != BASE}
        return Pool(tuple(depths), tuple(depths.values()))

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The attention window of every layer of the pool."""
        return tuple(window for name in self.pool.names for window in self.layouts[name][0].windows)

    @property
    def sizes(self) -> tuple[int, int]:
        """Parameters of one layer of the pool, and of what is in no layer."""
        layer = sum(math.prod(parameter.shape) for parameter in self.table if parameter.stacked)
        return layer, sum(math.prod(parameter.shape) for parameter in self.table if not parameter.stacked)

    def parent(self, name: str) -> Checkpoint:
        """A model as it is, with its own number of KV heads."""
        return self.own.get(name, self.sources[name])

    def kv_heads(self, names: Iterable[str]) -> dict[str, int]:
        """What our own block of a recipe says where it takes models of which the KV heads are repeated."""
        return {"kv_heads": self.config.num_kv_heads} if self.own.keys() & set(names) else {}

    def one_layout(self) -> Models:
        """The same models for merges in parameter space. Raises CheckpointError where their layouts differ."""
        first = self.base if self.base is not None else next(iter(self.experts.values()))
        config, table = layout_of(first)
        for name, source in self.experts.items():
            require_same_layout(name, source, first, config, table)
        return Models(self.experts, self.base, self.tokenizer, config, table, self.references)


def open_pool(config: EvolveConfig) -> PooledModels:
    """Raises InputError for a reference that leads nowhere, CheckpointError for models that do not fit each other."""
    experts, base, references = open_references(config)
    opened = experts | ({BASE: base} if base is not None else {})
    layouts = {name: layout_of(source) for name, source in opened.items()}
    for name, source in opened.items():
        require_fit(source, layouts[name][1])
    if config.space.kind == "joint":
        # As a recipe's merge has it: a base that is given and not taken is no part of it.
        whole = base if base is not None and config.operator.takes_base else next(iter(experts.values()))
        opened[MERGED], layouts[MERGED], references[MERGED] = whole, layout_of(whole), MERGED
    first = opened[config.input]
    if problem := architecture_of(first.config).unfoldable:
        raise CheckpointError(f"models.{config.input}: {first.folder}: {problem}; take another model as space.input")
    expected, table = layouts[config.input]
    if expected.num_layers == 1:
        raise CheckpointError(
            f"{_key(config.input)}: {first.folder}: has one layer, and a path begins with the first and ends with "
            "the last of its input; take another model as space.input"
        )
    for name, source in opened.items():
        if name != BASE:
            _require_same_block(name, source, layouts[name][0], first, expected)
    repeated = _repeated(opened, layouts)
    layouts |= {name: layout_of(source) for name, source in repeated.items()}
    own = {name: opened[name] for name in repeated if name != MERGED}
    opened |= repeated
    experts, base = {name: opened[name] for name in experts}, opened.get(BASE)
    first, (expected, table) = opened[config.input], layouts[config.input]
    tokenizer = tokenizer_folder(config, experts, first)
    models = PooledModels(experts, base, tokenizer, expected, table, references, config.input, first, layouts, own)
    if MERGED in opened:
        require_task_vectors(config, experts, base)
        models.one_layout()
    return models


def _require_same_block(
    name: str, source: Checkpoint, config: DecoderConfig, first: Checkpoint, expected: DecoderConfig
) -> None:
    demand = "models whose layers are mixed must agree in it; remove one of them"
    keys = dict(BLOCK)
    if expected.rope.kind == "dynamic":
        keys["max_positions"] = "max_position_embeddings"
    for key, label in keys.items():
        mine, theirs = getattr(config, key), getattr(expected, key)
        if mine != theirs:
            shown = isinstance(mine, int | float | str) and not isinstance(mine, bool)
            what = f"is {mine}, but {theirs} in" if shown else "differs from that of"
            raise CheckpointError(f"{_key(name)}: {source.folder}: {label} {what} {first.folder}; {demand}")
    if not set(config.windows) <= _windows(first, expected):
        raise CheckpointError(
            f"{_key(name)}: {source.folder}: its layers have other attention windows than those of {first.folder}; "
            f"{demand}"
        )


def _repeated(
    opened: Mapping[str, Checkpoint], layouts: Mapping[str, tuple[DecoderConfig, Table]]
) -> dict[str, Checkpoint]:
    """Those models that have fewer KV heads than another of the pool, with as many as that one."""
    counts = {name: layouts[name][0].num_kv_heads for name in opened if name != BASE}
    most = max(counts, key=counts.__getitem__)
    found: dict[str, Checkpoint] = {}
    for name, source in opened.items():
        try:
            if (model := with_kv_heads(source, counts[most])) is not source:
                found[name] = model
        except InputError as error:
            if name != BASE:  # which is in no path
                raise CheckpointError(
                    f"{_key(name)}: {error}, the number of {opened[most].folder}; models whose layers are mixed must "
                    "agree in it, or have numbers that divide the largest; remove one of them"
                ) from error
    return found


def _key(name: str) -> str:
    """Where the config names a model. A merge has the shapes of the base, or of the first expert, which was checked."""
    return BASE if name == MERGED else f"models.{name}"


def _windows(model: Checkpoint, config: DecoderConfig) -> set[int | None]:
    """The attention windows that layers may have side by side in a model like this."""
    layer_types = architecture_of(model.config).layer_types
    if layer_types is not None and layer_types(model.config) is not None:
        return {None, layer_window(model.config)}
    return set(config.windows)
