"""A candidate scored by likelihood against the plain forward pass of one unmerged model, and the memory it needs.

    python benchmarks/candidate.py [--tokens 512 4096] [--bank float32 bfloat16]

SmolLM2-135M's shape, base + 3 experts, everything merged (embedding and tied head too). The two are timed in turn and
the median of their ratios is reported. Roofline: merging a layer reads K + 1 sources and writes one, 2(K + 1)..4(K + 1)
+ 4 bytes a parameter; its matmuls take 2 flops a parameter and token. At 100 GFLOP/s and 20 GB/s a core, base + 3 in
float32 costs as much as 50 tokens: 10% of 512, 1.2% of 4096.
"""

import argparse
from functools import partial

import jax
import numpy as np
from machine import write
from smollm2_shape import Candidate, bank_of, seconds, shape, sources

from jaxmerge.population.programs import likelihoods


def measure(bank_dtype: str, lengths: list[int], names: list[str], rounds: int) -> list[dict]:
    config, table = shape()
    bank = bank_of(*sources(3, bank_dtype))
    layer = sum(int(np.prod(p.shape)) * 4 for p in table if p.stacked)
    rows = []
    for name in names:
        for length in lengths:
            drawn = jax.random.randint(jax.random.key(0), (max(1, length // 512), 512), 0, config.vocab_size)
            candidate = Candidate.of(name, bank, np.asarray(drawn))
            forward, params = candidate.plain(), candidate.merged()
            plain = partial(forward, params, candidate.batch)
            np.testing.assert_allclose(candidate.score(), plain(), rtol=2e-4)
            times = np.array([[seconds(plain), seconds(candidate.score)] for _ in range(rounds)])
            lowered = likelihoods.lower(candidate.form, candidate.merging, candidate.values, candidate.buckets)
            temporary = lowered.compile().memory_analysis().temp_size_in_bytes
            alone = forward.lower(params, candidate.batch).compile().memory_analysis().temp_size_in_bytes
            rows.append(
                {
                    "operator": name,
                    "bank": bank_dtype,
                    "tokens": int(drawn.size),
                    "plain_seconds": float(np.median(times[:, 0])),
                    "candidate_seconds": float(np.median(times[:, 1])),
                    "ratio": float(np.median(times[:, 1] / times[:, 0])),
                    "merged_layers_of_memory": (temporary - alone) / layer,
                }
            )
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--bank", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--operators", nargs="+", default=["task_arithmetic", "ties", "dare_ties"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for bank in arguments.bank:
        results = measure(bank, arguments.tokens, arguments.operators, arguments.rounds)
        write(f"candidate_{bank}_{'_'.join(map(str, arguments.tokens))}", results)
