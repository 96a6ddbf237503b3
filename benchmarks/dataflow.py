"""A data-flow path of n hops, folded as it runs, against the ordinary model of n layers that it is exported as.

    python benchmarks/dataflow.py [--tokens 512 4096] [--bank float32 bfloat16]

SmolLM2-135M's shape, two models in the pool, float32. The path has as many hops as the model layers, of up to 64. The
two are timed in turn, in processor time, and the median of their ratios is reported: scored by likelihood, and writing
text. Then paths of 20 lengths are scored, and compilations counted.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import write
from smollm2_shape import shape, sources

from jaxmerge.models.generation import generate
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Params, Stored
from jaxmerge.population.merged import Values
from jaxmerge.population.programs import Rows, Shape, continuations, likelihoods
from jaxmerge.population.routed import Routing, load_layers
from jaxmerge.runtime.compilations import counted
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement
from jaxmerge.spaces.dataflow import Route

HOPS = 64
PROMPTS, PROMPT, NEW = 16, 64, 32


def path(depth: int, layers: int, seed: int = 0) -> Values:
    """A path of `depth` hops through a bank of so many layers, scaled by 0.95 to 1.05 between two."""
    rng = np.random.default_rng(seed)
    route = Route(rng.integers(0, layers, depth).astype(np.int32), rng.uniform(0.95, 1.05, depth).astype(np.float32))
    spare = HOPS - depth
    return {
        "layers": jnp.asarray(np.pad(route.layers, (0, spare)))[None],
        "factors": jnp.asarray(np.pad(route.factors, (0, spare), constant_values=1.0))[None],
        "depth": jnp.array([depth], jnp.int32),
    }


def written_out(routing: Routing, values: Values) -> Params:
    """The path as the ordinary model."""
    one = routing.candidate(jax.tree.map(lambda array: array[0], values))
    hops = jax.lax.map(one.layer, jnp.arange(int(one.depth)))
    return {f"layers.{name}": array for name, array in hops.items()} | {n: one.whole(n) for n in routing.bank.ends}


def rows(count: int, length: int, vocab: int) -> Rows:
    tokens = jax.random.randint(jax.random.key(0), (1, count, length), 0, vocab)
    valid = jnp.ones(tokens.shape, bool)
    return tokens, valid, valid.at[..., 0].set(False)


def processor_seconds(call: Callable[[], Any]) -> float:
    """Of one call. What other jobs on the machine take does not count."""
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


def ratio(plain: Any, candidate: Any, rounds: int) -> dict[str, float]:
    times = np.array([[processor_seconds(plain), processor_seconds(candidate)] for _ in range(rounds + 1)])[1:]
    return {
        "stock_seconds": float(np.median(times[:, 0])),
        "path_seconds": float(np.median(times[:, 1])),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
    }


def measure(bank_dtype: str, lengths: list[int], rounds: int) -> list[dict[str, Any]]:
    config, table = shape()
    base, experts = sources(1, bank_dtype)
    mesh = make_mesh(devices=jax.devices()[:1])
    place = Placement(mesh)
    routing = Routing(load_layers([(table, base), (table, experts[0])], (table, base), place), jnp.float32)
    form = Shape(replace(config, num_layers=HOPS), jnp.float32, mesh, 1)
    values = path(config.num_layers, 2 * config.num_layers)
    params = written_out(routing, values)
    found = []
    for length in lengths:
        bucket = rows(max(1, length // 512), 512, config.vocab_size)
        flat = jax.tree.map(lambda array: array[0], bucket)
        stock = jax.jit(lambda params, rows: sequence_log_likelihood(Stored(params), config, *rows, dtype=jnp.float32))
        own = partial(likelihoods, form, routing, values, (bucket,))
        np.testing.assert_allclose(own()[0][0, 0], stock(params, flat), rtol=2e-5)
        row = {"what": "likelihood", "bank": bank_dtype, "hops": config.num_layers, "tokens": length}
        found.append(row | ratio(partial(stock, params, flat), own, rounds))
        print(found[-1], flush=True)
    prompts = rows(PROMPTS, PROMPT, config.vocab_size)
    writing = jax.jit(
        lambda params, tokens, valid: generate(
            Stored(params), config, tokens, valid, max_new_tokens=NEW, stop_ids=(), dtype=jnp.float32
        )
    )
    stock_text = partial(writing, params, prompts[0][0], prompts[1][0])
    own_text = partial(continuations, form, routing, values, (prompts,), NEW, ())
    same = float((np.asarray(own_text()[0][0, 0]) == np.asarray(stock_text())).all(axis=-1).mean())
    row = {"what": "text", "bank": bank_dtype, "hops": config.num_layers, "prompts": PROMPTS, "new_tokens": NEW}
    found.append(row | ratio(stock_text, own_text, rounds) | {"same_texts": same})
    print(found[-1], flush=True)
    small = rows(1, 16, config.vocab_size)
    with counted() as compilations:
        for depth in range(2, 62, 3):
            jax.block_until_ready(likelihoods(form, routing, path(depth, 60, depth), (small,)))
    found.append({"what": "compilations", "bank": bank_dtype, "lengths": 20, "compilations": compilations.count})
    print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--bank", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results = []
    for bank in arguments.bank:
        results += measure(bank, arguments.tokens, arguments.rounds)
    write("dataflow", results)
