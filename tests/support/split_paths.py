"""Paths over a split bank against paths over a whole one, on eight devices. Run by itself, as `split_bank` is."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tiny_world import OBJECTIVES, write_world

from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.dataflow import DataflowEngine
from jaxmerge.search.engines.joint import JointEngine
from jaxmerge.search.resolved import read_config

ROUTES = {"repeats": 1, "scales": "hop"}
# The operator prepares something for every element, which is split too.
MERGE = {"operator": "task_arithmetic", "parameters": {"weight": [-0.3, 1.8]}}
SPACES = {"dataflow": ROUTES, "joint": ROUTES | MERGE}


def engine_over(bank: str, config: EvolveConfig) -> DataflowEngine:
    engine = (JointEngine if config.space.kind == "joint" else DataflowEngine)(config.running(bank=bank))
    assert engine.chosen["bank"] == bank and engine.chosen["mesh"]["pop"] == 8
    engine.load()
    return engine


def _bank(engine: DataflowEngine) -> Any:
    """The sources alone: what is prepared for a whole tensor is whole on each device."""
    assert engine._programs is not None
    population: Any = engine._programs.population
    return population.merging.bank if isinstance(engine, JointEngine) else population.bank


def compare(folder: Path, kind: str) -> None:
    space, search = {"kind": kind} | SPACES[kind], {"baselines": []}
    config = read_config(write_world(folder, space=space, objectives=OBJECTIVES[1:], search=search))
    whole, split = (engine_over(bank, config) for bank in ("device", "sharded"))
    genomes = np.random.default_rng(3).random((8, whole.dimension), dtype=np.float32)
    genomes[0, whole.binary] = 0  # the shortest of all
    depths = {len(whole._route(genome).layers) for genome in genomes}
    assert min(depths) == 2 and len(depths) > 2, depths
    results = [engine.evaluate(genomes) for engine in (whole, split)]
    # The score is of what is written; the tie-breaker is a likelihood.
    pairs = [[(result.score, result.tie) for result in found] for found in results]
    assert pairs[0] == pairs[1] and len(set(pairs[0])) == 8 and None not in {score for score, _ in pairs[0]}, pairs
    shares = [
        sum(array.addressable_shards[0].data.nbytes for array in jax.tree.leaves(_bank(engine)))
        for engine in (whole, split)
    ]
    assert shares[0] == 8 * shares[1], shares
    print(kind)


if __name__ == "__main__":
    for kind in SPACES:
        compare(Path(sys.argv[1]) / kind, kind)
