"""A model of SmolLM2-135M's shape with random weights, and experts near it: what speed is measured on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Params, Stored
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import Bank, load_bank, prepare
from jaxmerge.population.merged import Members, Merging, Values
from jaxmerge.population.programs import Shape, likelihoods, merged_parameters
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement
from jaxmerge.spaces.groups import Granularity, Groups

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Of every operator that is measured.
PARAMETERS = {"weight": 0.6, "density": 0.5, "lambda": 1.0, "normalize": 0.0, "rescale": 1.0}
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class InMemory:
    """A checkpoint that lies in memory."""

    tensors: dict[str, np.ndarray]

    def read(self, name: str) -> np.ndarray:
        return self.tensors[name]


def shape() -> tuple[DecoderConfig, Table]:
    architecture = architecture_of(CONFIG)
    config = architecture.read(CONFIG)
    return config, architecture.table(config)


def sources(count: int, dtype: str) -> tuple[InMemory, tuple[InMemory, ...]]:
    """A base and `count` experts, each the base plus small noise, in the named dtype."""
    _, table = shape()
    rng = np.random.default_rng(0)
    base, experts = {}, [{} for _ in range(count)]
    for parameter in table:
        for name in parameter.names(table.num_layers):
            norm = len(parameter.shape) == 1
            tensor = np.ones(parameter.shape, np.float32) if norm else _normal(rng, parameter.shape, 0.04)
            base[name] = tensor.astype(DTYPES[dtype])
            for expert in experts:
                expert[name] = (tensor + _normal(rng, parameter.shape, 0.004)).astype(DTYPES[dtype])
    return InMemory(base), tuple(InMemory(expert) for expert in experts)


@dataclass(frozen=True)
class Candidate:
    """A merge, scored in float32 on one device inside the layer scan, and the same model with its weights merged
    beforehand."""

    form: Shape
    merging: Merging
    values: Values
    batch: tuple[jax.Array, jax.Array, jax.Array]

    @classmethod
    def of(cls, name: str, bank: Bank, tokens: np.ndarray) -> "Candidate":
        """tokens: int32 `[B, T]`."""
        config, table = shape()
        op = operator(name)
        mesh = _place().mesh
        groups = Groups.of(table, Granularity())
        experts = len(bank.experts["norm.weight"])
        chosen = {p.name: float(PARAMETERS.get(p.name, p.default or 0.0)) for p in op.parameters}
        grid = {p.name: np.array([chosen[p.name]]) for p in op.parameters if p.gridded}
        statistics = prepare(op, table, bank, _place(), seed=0, grid=grid)
        count = len(groups.names)
        values = {
            p.name: jnp.full((1, count, experts) if p.per_source else (1, count), chosen[p.name], jnp.float32)
            for p in op.parameters
        }
        valid = jnp.ones(tokens.shape, bool)
        batch = (jnp.asarray(tokens), valid, valid.at[:, 0].set(False))
        merging = Merging(bank, statistics, op, Members.of(groups.members), jnp.float32)
        return cls(Shape(config, jnp.float32, mesh, 1), merging, values, batch)

    @property
    def buckets(self) -> tuple[Any, ...]:
        return (jax.tree.map(lambda array: array[None], self.batch),)

    def score(self) -> jax.Array:
        return likelihoods(self.form, self.merging, self.values, self.buckets)[0][0, 0]

    def merged(self) -> Params:
        one = jax.tree.map(lambda array: array[0], self.values)
        return merged_parameters(self.merging, one)

    def plain(self) -> Callable[[Params, Any], jax.Array]:
        """The forward pass of a model that is not merged: `(params, batch) -> scores`."""
        config = self.form.config
        return jax.jit(lambda params, batch: sequence_log_likelihood(Stored(params), config, *batch, dtype=jnp.float32))


def bank_of(base: InMemory, experts: tuple[InMemory, ...]) -> Bank:
    return load_bank(shape()[1], base, experts, _place())


def seconds(call: Callable[[], Any]) -> float:
    """Of one call, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _place() -> Placement:
    return Placement(make_mesh(devices=jax.devices()[:1]))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) * np.float32(std)
