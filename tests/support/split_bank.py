"""A split bank against a whole one on eight devices. Run by itself, for a process has its devices for good."""

import re
import sys
from math import prod
from pathlib import Path

import jax
import numpy as np
from tiny_world import write_world

from jaxmerge.population.programs import likelihoods
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.resolved import read_config

PARAMETERS = {"weight": [-0.3, 1.8], "density": [0.2, 0.8], "epsilon": 0.05}
OPERATOR = "della"  # what it prepares for every element is split too
COLLECTIVES = r"= \S+ (?:all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)(?:-start)?\("


def collectives(program: str) -> tuple[list[int], list[int]]:
    """The elements of all results of collectives, inside bodies of loops and outside."""
    bodies = set(re.findall(r"body=%([\w.-]+)", program))
    inside: list[int] = []
    outside: list[int] = []
    computation = ""
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%([\w.-]+) \(", line):
            computation = header[1]
        elif re.search(COLLECTIVES, line):
            shape = re.search(r"= \(?\w+\[([\d,]*)\]", line)
            assert shape, line
            (inside if computation in bodies else outside).append(prod(map(int, shape[1].split(","))))
    return inside, outside


def engine_over(bank: str, config: EvolveConfig) -> ParameterEngine:
    engine = ParameterEngine(config.running(bank=bank))
    assert engine.chosen["bank"] == bank and engine.chosen["mesh"]["pop"] == 8
    engine.load()
    return engine


def main(folder: Path) -> None:
    config = read_config(write_world(folder, space={"operator": OPERATOR, "parameters": PARAMETERS}))
    whole, split = (engine_over(bank, config) for bank in ("device", "sharded"))
    genomes = np.random.default_rng(3).random((8, whole.dimension), dtype=np.float32)
    scores = [[result.score for result in engine.evaluate(genomes)] for engine in (whole, split)]
    assert scores[0] == scores[1] and len(set(scores[0])) == 8 and None not in scores[0]
    models = [engine.parameters(genomes[0]) for engine in (whole, split)]
    assert all(np.array_equal(array, models[1][path]) for path, array in models[0].items())
    shares = [
        sum(array.addressable_shards[0].data.nbytes for array in jax.tree.leaves(engine._merger.bank))
        for engine in (whole, split)
    ]
    assert shares[0] == 8 * shares[1]
    print("same")

    texts = []
    for engine in (whole, split):
        programs = engine._programs
        assert programs is not None
        values = programs.candidates(engine._space.decode(genomes)).block(0)
        selection = engine.objectives[0].split("search").select(engine.objectives[0].config, None)
        rows = programs.placed(selection.references)
        texts.append(likelihoods.lower(programs.shape, programs.population, values, rows).compile().as_text())
    gathered = [collectives(text) for text in texts]
    assert not any(gathered[0])
    inside, outside = gathered[1]
    # Of base, experts and their ranks each tensor of one layer, once a turn of the loop.
    table = whole._models.table
    assert sorted(inside) == sorted(prod(p.shape) for p in table if p.stacked for _ in range(5)), inside
    # What is in no layer: the last norm, the head, and rows of the embedding as tokens ask for them.
    elements = {prod(p.shape) for p in table if not p.stacked}
    assert elements < set(outside), outside
    print("gathered")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
