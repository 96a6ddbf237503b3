"""A tiny random model with experts near it, in memory, and the programs over it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.objectives.interface import Batch, Bucket
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import load_bank, prepare
from jaxmerge.population.merged import Members, Merging
from jaxmerge.population.programs import Shape
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": 37,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"weight": Range(0.1, 1.0)},
    "task_arithmetic": {"weight": Range(-0.3, 1.8)},
    "ties": {"weight": Range(-0.3, 1.8), "density": Range(0.1, 1.0)},
    "dare_linear": {"weight": Range(-0.3, 1.8), "density": Range(0.1, 1.0)},
    "dare_ties": {"weight": Range(-0.3, 1.8), "density": Range(0.1, 1.0)},
    "della": {"weight": Range(-0.3, 1.8), "density": Range(0.2, 0.8), "epsilon": Range(0.01, 0.15)},
    "breadcrumbs_ties": {"weight": Range(-0.3, 1.8), "density": Range(0.1, 1.0), "gamma": Range(0.0, 0.05)},
    "nuslerp": {"weight": Range(0.1, 1.0), "nuslerp_flatten": False},
    "multislerp": {"weight": Range(0.1, 1.0)},
    "sce": {"select_topk": Range(0.1, 1.0)},
    "pcb": {"weight": Range(-0.3, 1.8), "ratio": Range(0.05, 0.5)},
    "tsv": {"weight": Range(-0.3, 1.8), "lambda": Range(0.0, 2.0)},
    "ramplus_tl": {"epsilon": Range(0.0, 0.2), "r": Range(0.0, 1.0), "alpha": Range(0.0, 1.0)},
}


@dataclass(frozen=True)
class InMemory:
    tensors: dict[str, np.ndarray]

    def read(self, name: str) -> np.ndarray:
        return self.tensors[name]


def checkpoints(dtype: Any = np.float32, experts: int = 2) -> tuple[InMemory, tuple[InMemory, ...]]:
    architecture = architecture_of(CONFIG)
    table = architecture.table(architecture.read(CONFIG))
    rng = np.random.default_rng(0)
    base = {n: rng.normal(0, 0.3, p.shape).astype(dtype) for p in table for n in p.names(table.num_layers)}
    tuned = [
        {n: (t.astype(np.float32) + rng.normal(0, 0.1, t.shape)).astype(dtype) for n, t in base.items()}
        for _ in range(experts)
    ]
    return InMemory(base), tuple(InMemory(t) for t in tuned)


def miniature(
    name: str, *, dtype: Any = np.float32, compute: Any = jnp.float32, chunk: int = 1, mesh: Mesh | None = None
) -> tuple[Programs, ParameterSpace]:
    architecture = architecture_of(CONFIG)
    config = architecture.read(CONFIG)
    table = architecture.table(config)
    base, experts = checkpoints(dtype)
    groups = Groups.of(table, Granularity())
    space = ParameterSpace(operator(name), ("a", "b"), groups, SETTINGS[name])
    mesh = make_mesh(devices=jax.devices()[:1]) if mesh is None else mesh
    place = Placement.of(config, mesh)
    used_base = base if space.operator.needs_base else None
    bank = load_bank(table, used_base, experts, place)
    grid = {p.name: space.grid(p) for p in space.operator.parameters if p.gridded}
    statistics = prepare(space.operator, table, bank, place, seed=7, grid=grid)
    merging = Merging(bank, statistics, space.operator, Members.of(groups.members), compute)
    return Programs(Shape(config, compute, mesh, chunk), merging), space


def batch(lengths: tuple[tuple[int, int], ...] = ((3, 8), (2, 16)), *, left: bool = False) -> Batch:
    """Buckets of (rows, length) with random tokens and ragged padding."""
    rng = np.random.default_rng(1)
    buckets, first = [], 0
    for rows, length in lengths:
        sizes = rng.integers(length // 2 + 1, length + 1, rows)
        place = np.arange(length)[None]
        valid = place >= length - sizes[:, None] if left else place < sizes[:, None]
        counted = valid & (place > 0)
        tokens = np.where(valid, rng.integers(3, 37, (rows, length)), 0).astype(np.int32)
        buckets.append(Bucket(tokens, valid, counted, np.arange(first, first + rows)))
        first += rows
    return Batch(tuple(buckets), first)
