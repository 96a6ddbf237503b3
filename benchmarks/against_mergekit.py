"""A candidate of a search, against mergekit's merge to disk and transformers' load and forward, on the same cores.

    python benchmarks/against_mergekit.py --mergekit PATH/TO/mergekit-yaml

SmolLM2-135M's shape in bfloat16 on disk, base + 2, task_arithmetic and ties, on texts of 512 and 4096 tokens. Two
figures an operator: everything but the scoring, and a whole candidate (the likelihood of the text). For us everything
but the scoring is what a candidate takes beyond a plain forward pass: the mean of paired differences and twice its
standard error, so that the ratio is one that is reached at least. Beside it stands the time to merge the whole model
into memory, as for generated text. mergekit runs as its users run it, one process a
merge; transformers loads its output in float32 in one process that is already warm. How much cheaper a whole candidate
is depends on the text: scoring it costs the same on both sides.
"""

import argparse
import json
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from machine import write
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from smollm2_shape import CONFIG, PARAMETERS, Candidate, InMemory, bank_of, seconds, shape, sources

ROUNDS = 15


def main(mergekit: str, lengths: list[int]) -> None:
    config, _ = shape()
    base, experts = sources(2, "bfloat16")
    bank = bank_of(base, experts)
    rng = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folders = [_save(model, Path(root) / f"m{i}") for i, model in enumerate((base, *experts))]
        for name in ("task_arithmetic", "ties"):
            for length in lengths:
                tokens = rng.integers(0, config.vocab_size, (length // 512, 512), np.int32)
                row = _measure(Candidate.of(name, bank, tokens))
                theirs = [_through_the_disk(mergekit, name, folders, Path(root) / "out", tokens) for _ in range(3)]
                merge, load, score = map(float, np.median(np.array(theirs), axis=0))
                rows.append(
                    {"operator": name, "tokens": length}
                    | row
                    | {
                        "mergekit_seconds": merge,
                        "transformers_load_seconds": load,
                        "transformers_score_seconds": score,
                        "all_but_scoring_times_cheaper_at_least": (merge + load) / row["beyond_plain_at_most_seconds"],
                        "merged_into_memory_times_cheaper": (merge + load) / row["into_memory_seconds"],
                        "whole_candidate_times_cheaper": (merge + load + score) / row["candidate_seconds"],
                    }
                )
                print(rows[-1], flush=True)
    write("against_mergekit", rows)


def _measure(candidate: Candidate) -> dict[str, float]:
    forward, params = candidate.plain(), candidate.merged()
    plain = partial(forward, params, candidate.batch)
    jax.block_until_ready((candidate.score(), plain()))
    times = np.array([[seconds(plain), seconds(candidate.score)] for _ in range(ROUNDS)])
    beyond = times[:, 1] - times[:, 0]
    return {
        "candidate_seconds": float(np.median(times[:, 1])),
        "plain_forward_seconds": float(np.median(times[:, 0])),
        "beyond_plain_seconds": float(beyond.mean()),
        "beyond_plain_at_most_seconds": float(beyond.mean() + 2 * beyond.std(ddof=1) / np.sqrt(len(beyond))),
        "into_memory_seconds": float(np.median([seconds(candidate.merged) for _ in range(ROUNDS)])),
    }


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
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    arguments = parser.parse_args()
    main(arguments.mergekit, arguments.tokens)
