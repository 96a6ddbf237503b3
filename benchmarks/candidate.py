"""A candidate scored by likelihood against the plain forward pass of one unmerged model, and the memory it needs.

    python benchmarks/candidate.py [--tokens 512 4096] [--bank float32 bfloat16]

SmolLM2-135M's shape, base + 3 experts, everything merged (embedding and tied head too). The two are timed in turn and
the median of their ratios is reported. Roofline: merging a layer reads K + 1 sources and writes one, 2(K + 1)..4(K + 1)
+ 4 bytes a parameter; its matmuls take 2 flops a parameter and token. At 100 GFLOP/s and 20 GB/s a core, base + 3 in
float32 costs as much as 50 tokens: 10% of 512, 1.2% of 4096.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from machine import write
from smollm2_shape import shape, sources

from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Stored
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import Bank, load_bank, prepare
from jaxmerge.population.merged import Members
from jaxmerge.population.programs import Shape, likelihoods, merged_parameters
from jaxmerge.runtime.mesh import population_mesh, replicated
from jaxmerge.spaces.groups import Granularity, Groups

PARAMETERS = {"weight": 0.6, "density": 0.5, "lambda": 1.0, "normalize": 0.0, "rescale": 1.0, "int8_mask": 0.0}


def measure(bank_dtype: str, lengths: list[int], names: list[str], rounds: int) -> list[dict]:
    config, table = shape()
    base, experts = sources(3, bank_dtype)
    mesh = population_mesh(1)
    place = partial(jax.device_put, device=replicated(mesh))
    bank: Bank = load_bank(table, base, experts, place)
    groups = Groups.of(table, Granularity())
    rows = []
    for name in names:
        op = operator(name)
        grid = {p.name: np.array([PARAMETERS[p.name]]) for p in op.parameters if p.gridded}
        statistics = prepare(op, table, base, experts, place, seed=0, grid=grid)
        form = Shape(op, Members.of(groups.members), config, jnp.float32, mesh, 1)
        count = len(groups.names)
        values = {
            p.name: jnp.full((1, count, 3) if p.per_source else (1, count), PARAMETERS[p.name], jnp.float32)
            for p in op.parameters
        }
        one = jax.tree.map(lambda array: array[0], values)
        plain_params = merged_parameters(form, bank, statistics, one)
        for length in lengths:
            tokens = jax.random.randint(jax.random.key(0), (max(1, length // 512), 512), 0, config.vocab_size)
            valid = jnp.ones(tokens.shape, bool)
            batch = (tokens, valid, valid.at[:, 0].set(False))
            forward = jax.jit(
                lambda params, batch: sequence_log_likelihood(Stored(params), config, *batch, dtype=jnp.float32)
            )
            buckets = (jax.tree.map(lambda array: array[None], batch),)
            compiled = likelihoods.lower(form, bank, statistics, values, buckets).compile()
            plain = partial(forward, plain_params, batch)
            candidate = partial(likelihoods, form, bank, statistics, values, buckets)
            expected, got = plain(), candidate()[0][0, 0]
            np.testing.assert_allclose(got, expected, rtol=2e-4)
            times = np.array([[_seconds(plain), _seconds(candidate)] for _ in range(rounds)])
            temporary = compiled.memory_analysis().temp_size_in_bytes
            alone = forward.lower(plain_params, batch).compile().memory_analysis().temp_size_in_bytes
            layer = sum(int(np.prod(p.shape)) * 4 for p in table if p.stacked)
            rows.append(
                {
                    "operator": name,
                    "bank": bank_dtype,
                    "tokens": int(tokens.size),
                    "plain_seconds": float(np.median(times[:, 0])),
                    "candidate_seconds": float(np.median(times[:, 1])),
                    "ratio": float(np.median(times[:, 1] / times[:, 0])),
                    "merged_layers_of_memory": (temporary - alone) / layer,
                }
            )
            print(rows[-1], flush=True)
    return rows


def _seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--bank", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--operators", nargs="+", default=["task_arithmetic", "ties", "dare_ties"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    results = []
    for bank in arguments.bank:
        results += measure(bank, arguments.tokens, arguments.operators, arguments.rounds)
    write("candidate", results)
