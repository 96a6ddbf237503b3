"""What one search gives on eight virtual devices, however they are arranged: JSON for `tests/population/test_mesh.py`.

Run as a program, for the number of devices is fixed when jax starts."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the test that runs this imports it too, and has its own devices
    os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import miniature
import numpy as np
from tiny_world import write_world

from jaxmerge.models import likelihood
from jaxmerge.objectives.interface import Reference
from jaxmerge.population.batched import Batching
from jaxmerge.population.programs import likelihoods, merged_parameters
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.mesh import make_mesh, on_row
from jaxmerge.search.engines.joint import JointEngine
from jaxmerge.search.resolved import read_config

COLLECTIVE = re.compile(r" = (.*) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
LAYERS = 3
# Heads of keys fewer than the devices of a candidate as well as more; a head of several blocks, the last one partial.
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 8, "head_dim": 4, "vocab_size": 64}
ROWS_AT_ONCE = 6
# Of a device: enough for all, and enough for a candidate over two.
JOINT_MEMORY = ("1GB", "150kB")
DATA, PROMPTS = miniature.batch(((3, 8),)), miniature.batch(((3, 8),), left=True)


def collectives(programs: Programs, values: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Those of a candidate's likelihood: kind, shapes, and whether they belong to a layer."""
    call = likelihoods.lower(programs.shape, programs.population, values, programs.placed(DATA))
    found = []
    for line in call.compile().as_text().splitlines():
        if match := COLLECTIVE.search(line):
            shapes = [[int(n) for n in dims.split(",") if n] for dims in re.findall(r"\w+\[([\d,]*)\]", match[1])]
            found.append({"kind": match[2], "shapes": shapes, "in_layer": "dot_general" in line})
    return found


def scores(name: str, kv_heads: int, arrangements: tuple[tuple[int, int], ...], *, text: bool) -> dict[str, Any]:
    miniature.CONFIG.update(SIZES | {"num_key_value_heads": kv_heads})
    found: dict[str, Any] = {}
    for pop, model in arrangements:
        mesh = make_mesh(pop, model, jax.devices()[: pop * model])
        programs, space = miniature.miniature(name, mesh=mesh)
        values = space.decode(np.random.default_rng(3).random((2, space.dimension), np.float32))
        runner = programs.candidates(values)
        own = {key: jnp.asarray(array[0]) for key, array in values.items()}
        merged = merged_parameters(on_row(programs.population, mesh), own)
        found[f"{pop} x {model}"] = {
            "likelihood": runner.likelihood(DATA).tolist(),
            "text": runner.generate(PROMPTS, 4, (1, 2)).tolist() if text else None,
            "merged": {path: np.asarray(array).tobytes().hex() for path, array in merged.items()},
            "collectives": collectives(programs, runner.block(0)),
        }
    return found


def gradient(model: int) -> dict[str, Any]:
    programs, space = miniature.miniature("linear", mesh=make_mesh(8 // model, model))
    values = space.decode(np.full(space.dimension, 0.4, np.float32))
    wanted = Reference(miniature.batch(((9, 8),)), np.full(9, 0.1, np.float32))
    sum, by_value = programs.gradient(values, wanted)
    return {"sum": sum, "weight": by_value["weight"].tolist()}


def batched(pop: int) -> list[list[float]]:
    """Of three candidates, two of them at once on a device."""
    programs, space = miniature.miniature("linear", mesh=make_mesh(pop, 1, jax.devices()[:pop]))
    values = space.decode(np.random.default_rng(3).random((3, space.dimension), np.float32))
    together = Programs(replace(programs.shape, chunk=2, folded=True), Batching(programs.population))
    return together.candidates(values).likelihood(DATA).tolist()


def joint(config: Path, memory: str) -> dict[str, Any]:
    engine = JointEngine(read_config(config, [f"runtime.memory={memory}"]))
    engine.load()
    genomes = np.random.default_rng(7).random((3, engine.dimension), np.float32)
    scores = [result.score for result in engine.evaluate(genomes)]
    held = sum(array.addressable_shards[0].data.nbytes for array in jax.tree.leaves(engine._merger.bank))
    return {"scores": scores, "chosen": engine.chosen, "placed": engine.placed, "bank": held}


if __name__ == "__main__":
    world = write_world(
        Path(sys.argv[1]),
        space={"kind": "joint", "operator": "task_arithmetic", "parameters": {"weight": [0.0, 1.5]}, "repeats": 1},
        search={"baselines": []},
    )
    result: dict[str, Any] = {"joint": {memory: joint(world, memory) for memory in JOINT_MEMORY}}
    likelihood.LOGITS_AT_ONCE, likelihood.SMALLEST_BLOCK = 1, ROWS_AT_ONCE
    result["dare_ties"] = scores("dare_ties", 4, ((8, 1), (2, 4)), text=True)
    result["nuslerp"] = scores("nuslerp", 2, ((1, 1), (2, 4)), text=False)
    # Its sums are compared, not its bits, and compiling is what it costs.
    jax.config.update("jax_disable_most_optimizations", True)
    result["gradient"] = {str(model): gradient(model) for model in (1, 4)}
    result["batched"] = {str(pop): batched(pop) for pop in (1, 2)}
    print(json.dumps(result))
