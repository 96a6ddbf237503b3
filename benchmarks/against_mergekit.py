"""A candidate of a search, against mergekit's merge to disk and transformers' load and forward, on the same cores.

    python benchmarks/against_mergekit.py --mergekit PATH/TO/mergekit-yaml

SmolLM2-135M's shape in bfloat16 on disk, base + 2, task_arithmetic and ties. Two figures an operator: everything but
the scoring (for us the difference between a candidate and a plain forward pass), and a whole candidate (the likelihood
of 4096 tokens). mergekit runs as its users run it, one process a merge; transformers loads its output in float32 in one
process that is already warm.
"""

import argparse
import json
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from candidate import PARAMETERS
from machine import write
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from smollm2_shape import CONFIG, InMemory, shape, sources

from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Stored
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import load_bank, prepare
from jaxmerge.population.merged import Members
from jaxmerge.population.programs import Shape, likelihoods, merged_parameters
from jaxmerge.runtime.mesh import population_mesh, replicated
from jaxmerge.spaces.groups import Granularity, Groups

ROUNDS = 5


def main(mergekit: str) -> None:
    config, table = shape()
    base, experts = sources(2, "bfloat16")
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (8, 512), np.int32)
    mesh = population_mesh(1)
    place = partial(jax.device_put, device=replicated(mesh))
    bank = load_bank(table, base, experts, place)
    groups = Groups.of(table, Granularity())
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folders = [_save(model, Path(root) / f"m{i}") for i, model in enumerate((base, *experts))]
        for name in ("task_arithmetic", "ties"):
            op = operator(name)
            grid = {p.name: np.array([PARAMETERS[p.name]]) for p in op.parameters if p.gridded}
            statistics = prepare(op, table, base, experts, place, seed=0, grid=grid)
            form = Shape(op, Members.of(groups.members), config, jnp.float32, mesh, 1)
            count = len(groups.names)
            values = {
                p.name: jnp.full((1, count, 2) if p.per_source else (1, count), PARAMETERS[p.name], jnp.float32)
                for p in op.parameters
            }
            batch = _batch(tokens)
            buckets = (jax.tree.map(lambda array: array[None], batch),)
            params = merged_parameters(form, bank, statistics, jax.tree.map(lambda array: array[0], values))
            forward = jax.jit(
                lambda params, batch: sequence_log_likelihood(Stored(params), config, *batch, dtype=jnp.float32)
            )
            candidate = partial(likelihoods, form, bank, statistics, values, buckets)
            plain = partial(forward, params, batch)
            jax.block_until_ready((candidate(), plain()))
            ours = np.median([_seconds(candidate) for _ in range(ROUNDS)])
            alone = np.median([_seconds(plain) for _ in range(ROUNDS)])
            theirs = [_through_the_disk(mergekit, name, folders, Path(root) / "out", tokens) for _ in range(3)]
            merge, load, score = np.median(np.array(theirs), axis=0)
            rows.append(
                {
                    "operator": name,
                    "candidate_seconds": ours,
                    "plain_forward_seconds": alone,
                    "merging_seconds": ours - alone,
                    "mergekit_seconds": merge,
                    "transformers_load_seconds": load,
                    "transformers_score_seconds": score,
                    "all_but_scoring_times_cheaper": (merge + load) / max(ours - alone, 1e-9),
                    "whole_candidate_times_cheaper": (merge + load + score) / ours,
                }
            )
            print(rows[-1], flush=True)
    write("against_mergekit", rows)


def _batch(tokens: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    valid = jnp.ones(tokens.shape, bool)
    return jnp.asarray(tokens), valid, valid.at[:, 0].set(False)


def _seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _save(model: InMemory, folder: Path) -> Path:
    folder.mkdir()
    save_file(dict(model.tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG | {"torch_dtype": "bfloat16"}))
    return folder


def _through_the_disk(
    mergekit: str, name: str, folders: list[Path], out: Path, tokens: np.ndarray
) -> tuple[float, float, float]:
    base, *experts = map(str, folders)
    parameters = {"weight": PARAMETERS["weight"]} | ({"density": PARAMETERS["density"]} if name == "ties" else {})
    recipe = {
        "merge_method": name,
        "base_model": base,
        "models": [{"model": expert, "parameters": parameters} for expert in experts],
        "dtype": "bfloat16",
    }
    file = out.with_suffix(".yaml")
    YAML(typ="safe").dump(recipe, file)
    start = time.perf_counter()
    subprocess.run([mergekit, str(file), str(out), "--no-copy-tokenizer"], check=True, capture_output=True)
    merged = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    loaded = time.perf_counter()
    with torch.no_grad():
        ids = torch.from_numpy(tokens.astype(np.int64))
        model(ids, labels=ids)
    return merged - start, loaded - merged, time.perf_counter() - loaded


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", default="mergekit-yaml")
    main(parser.parse_args().mergekit)
