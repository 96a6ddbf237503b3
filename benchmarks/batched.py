"""A population as one batch (`runtime.forward: batched`) against merging each candidate inside the layer scan, and
LoRAs that are never applied against a merge and a forward pass for each candidate by torch and transformers.

    python benchmarks/batched.py [--tokens 16 64] [--population 16] [--rounds 3]

SmolLM2-135M's shape in float32, random weights. `experts`: task arithmetic of base + 3 whole models; seconds a
candidate as one batch, merged in the scan, and of a plain forward pass. `loras`: a search over 10 LoRAs of rank 16,
population 64, likelihood of 64 tokens, from files: seconds a candidate and the memory of the whole process, with PEFT's
default targets and with all linear layers. Peers: `mergekit_style` sums the task vectors of the ten models (LoRAs
applied beforehand) as mergekit does, writes the merge, and transformers loads and runs it; `torch_factors` adds the ten
products to the model in memory, the cheapest that torch can do, and transformers runs it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXPERTS, RANK, SCALE, POPULATION, TOKENS = 10, 16, 2.0, 64, 64
DEFAULT = ("self_attn.q_proj", "self_attn.v_proj")
ALL = (*DEFAULT, "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def experts(lengths: list[int], population: int, rounds: int) -> list[dict[str, Any]]:
    from dataclasses import replace

    import jax
    import jax.numpy as jnp
    from smollm2_shape import Candidate, bank_of, seconds, shape, sources

    from jaxmerge.population.batched import Batching
    from jaxmerge.population.programs import likelihoods

    bank, rows = bank_of(*sources(3, "float32")), []
    for length in lengths:
        tokens = np.asarray(jax.random.randint(jax.random.key(0), (1, length), 0, shape()[0].vocab_size))
        one = Candidate.of("task_arithmetic", bank, tokens)
        forward, params = one.plain(), one.merged()
        form = replace(one.form, chunk=population, folded=True)
        drawn = np.random.default_rng(0).uniform(0.0, 0.6, (population, *one.values["weight"].shape[1:]))
        values = {name: jnp.repeat(array, population, 0) for name, array in one.values.items()}
        values["weight"] = jnp.asarray(drawn, jnp.float32)
        calls = [
            lambda one=one, forward=forward, params=params: forward(params, one.batch),
            lambda one=one: one.score(),
            lambda one=one, form=form, values=values: likelihoods(form, Batching(one.merging), values, one.buckets),
        ]
        together = calls[2]()[0][:2, 0, 0]
        apart = [{name: array[i : i + 1] for name, array in values.items()} for i in (0, 1)]
        own = [likelihoods(one.form, one.merging, each, one.buckets)[0] for each in apart]
        error = float(np.abs(np.asarray(together) / np.ravel(own) - 1).max())
        for call in calls[:2]:
            jax.block_until_ready(call())
        times = np.median([[seconds(call) for call in calls] for _ in range(rounds)], axis=0) / [1, 1, population]
        rows.append(
            {
                "tokens": length,
                "population": population,
                "plain_seconds": float(times[0]),
                "merged_seconds": float(times[1]),
                "batched_seconds": float(times[2]),
                "batched_over_merged": float(times[2] / times[1]),
                "relative_difference_of_scores": error,
            }
        )
        print(rows[-1], flush=True)
    return rows


def write_world(root: Path, modules: tuple[str, ...]) -> dict[str, Any]:
    """A model and LoRAs as files, and a config of a search over them."""
    import tokenizers
    from safetensors.numpy import save_file
    from smollm2_shape import CONFIG, sources
    from tokenizers import models, pre_tokenizers

    rng, base = np.random.default_rng(1), root / "base"
    if not base.exists():
        base.mkdir()
        save_file(sources(0, "float32")[0].tensors, base / "model.safetensors", metadata={"format": "pt"})
        (base / "config.json").write_text(json.dumps(CONFIG))
        vocabulary = {f"w{i}": i for i in range(CONFIG["vocab_size"])}
        tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(base / "tokenizer.json"))
        (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    text = " ".join(f"w{i}" for i in rng.integers(3, CONFIG["vocab_size"], TOKENS))
    (root / "search.jsonl").write_text(json.dumps({"text": text}) + "\n")
    names = [f"{len(modules)}_{i}" for i in range(EXPERTS)]
    for name in names:
        write_lora(root / name, modules, rng)
    return {
        "models": {f"e{name}": f"{base}+{root / name}" for name in names},
        "base": str(base),
        "space": {"operator": "task_arithmetic", "parameters": {"weight": [0.0, 1.0]}},
        "objectives": [
            {"name": "text", "kind": "likelihood", "text": "{text}", "data": {"search": str(root / "search.jsonl")}}
        ],
        "search": {"population": POPULATION, "baselines": []},
        "runtime": {"dtype": "float32"},
    }


def write_lora(folder: Path, modules: tuple[str, ...], rng: np.random.Generator) -> None:
    from safetensors.numpy import save_file
    from smollm2_shape import shape

    _, table = shape()
    tensors = {}
    for parameter in table:
        if parameter.path.removeprefix("layers.").removesuffix(".weight") in modules:
            out, into = parameter.shape
            for name in parameter.names(table.num_layers):
                module = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{module}.lora_A.weight"] = rng.normal(0, 0.04, (RANK, into)).astype(np.float32)
                tensors[f"{module}.lora_B.weight"] = rng.normal(0, 0.04, (out, RANK)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": RANK, "lora_alpha": SCALE * RANK}
    (folder / "adapter_config.json").write_text(json.dumps(content | {"target_modules": list(modules)}))


def search(config: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Of this process: seconds a candidate of a generation, and memory."""
    from jaxmerge.search.engines.parameter import ParameterEngine
    from jaxmerge.search.resolved import read_config

    engine = ParameterEngine(read_config(config))
    before = resident()
    engine.load()
    engine.use(engine.chunks(POPULATION)[0])
    times, rng = [], np.random.default_rng(0)
    for _ in range(rounds + 1):
        genomes = rng.random((POPULATION, engine.dimension), dtype=np.float32)
        scores, spent = timed(lambda drawn=genomes: [result.score for result in engine.evaluate(drawn)])
        times.append(spent / POPULATION)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    exact = engine.evaluate(genomes[:1], exact=True)[0].score
    return {
        "forward": engine.plan()["forward"],
        **seconds_of("candidate", times[1:]),
        **seconds_of("first_generation", times[:1]),
        "relative_difference_to_merged": abs(scores[0] / exact - 1),
        "peak_bytes": peak,
        "peak_bytes_beyond_imports": peak - before,
    }


def one_model(config: dict[str, Any]) -> dict[str, Any]:
    """Of this process: the memory in which the model itself is scored on the same text."""
    import jaxmerge
    from jaxmerge.search.engines.parameter import ParameterEngine

    assert ParameterEngine  # both processes begin with the same imports
    before = resident()
    jaxmerge.evaluate(config["base"], config["objectives"], split="search", dtype="float32")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_bytes": peak, "peak_bytes_beyond_imports": peak - before}


def peers(config: dict[str, Any], rounds: int) -> dict[str, Any]:
    import torch
    import transformers
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    base = Path(config["base"])
    own = load_file(base / "model.safetensors")
    folders = [Path(ref.split("+")[1]) for ref in config["models"].values()]
    loras = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    words = json.loads((base.parent / "search.jsonl").read_text())["text"].split()
    inputs = torch.tensor([[int(word[1:]) for word in words]])
    modules = [key.removesuffix(".lora_A.weight") for key in loras[0] if key.endswith("lora_A.weight")]
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    experts = []
    for i, lora in enumerate(loras):
        whole = dict(own)
        for module in modules:
            name = f"{module.removeprefix('base_model.model.')}.weight"
            whole[name] = own[name] + SCALE * lora[f"{module}.lora_B.weight"] @ lora[f"{module}.lora_A.weight"]
        file = base.parent / f"expert{i}.safetensors"
        save_file({name: tensor.bfloat16() for name, tensor in whole.items()}, file)
        experts.append(safe_open(file, "pt"))
    files = [safe_open(base / "model.safetensors", "pt"), *experts]

    def score(candidate: Any) -> None:
        with torch.no_grad():
            logits = candidate(inputs).logits[:, :-1].float()
            torch.nn.functional.cross_entropy(logits.transpose(1, 2), inputs[:, 1:])

    def mergekit_style(weights: torch.Tensor) -> None:
        merged = {}
        for name in own:
            first, *others = (file.get_tensor(name).float() for file in files)
            deltas = torch.stack([other - first for other in others])
            shares = weights.view(-1, *[1] * first.dim())
            merged[name] = (first + (shares * deltas).sum(dim=0)).bfloat16()
        out = base.parent / "out"
        out.mkdir(exist_ok=True)
        save_file(merged, out / "model.safetensors", metadata={"format": "pt"})
        (out / "config.json").write_text((base / "config.json").read_text())
        score(transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))

    def torch_factors(weights: torch.Tensor) -> None:
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for module in modules:
                name = f"{module.removeprefix('base_model.model.')}.weight"
                ups = [lora[f"{module}.lora_B.weight"] for lora in loras]
                up = torch.cat([w * SCALE * each for w, each in zip(weights, ups, strict=True)], dim=1)
                down = torch.cat([lora[f"{module}.lora_A.weight"] for lora in loras])
                torch.addmm(own[name], up, down, out=parameters[name])
        score(model)

    found = {}
    for run in (mergekit_style, torch_factors):
        times = []
        for _ in range(rounds + 1):
            times.append(timed(lambda run=run: run(torch.rand(EXPERTS)))[1])
        found |= seconds_of(run.__name__, times[1:])
    return found


def timed(call: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What a call gives, and its seconds by the clock and of all cores."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = call()
    return result, np.array([time.perf_counter(), time.process_time()]) - start


def seconds_of(name: str, times: list[np.ndarray]) -> dict[str, float]:
    """Cores' seconds say more where others use the machine too."""
    clock, cores = np.median(times, axis=0)
    return {f"{name}_seconds": float(clock), f"{name}_core_seconds": float(cores)}


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def apart(part: str, root: Path, rounds: int) -> Any:
    """What a part gives in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--root", str(root), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def loras(rounds: int) -> list[dict[str, Any]]:
    from smollm2_shape import shape

    model, rows = 4 * sum(int(np.prod(shape()[1].shape(p))) for p in shape()[1]), []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for modules in (DEFAULT, ALL):
            (root / "config.json").write_text(json.dumps(write_world(root, modules)))
            ours, alone = apart("search", root, rounds), apart("one_model", root, rounds)
            theirs = apart("peers", root, 1)
            rows.append(
                {
                    "targets": len(modules),
                    "experts": EXPERTS,
                    "rank": RANK,
                    "population": POPULATION,
                    "tokens": TOKENS,
                    **ours,
                    **theirs,
                    **{
                        f"times_cheaper_than_{peer}{by}": theirs[f"{peer}{by}_seconds"] / ours[f"candidate{by}_seconds"]
                        for peer in ("mergekit_style", "torch_factors")
                        for by in ("", "_core")
                    },
                    "model_bytes": model,
                    "one_model_peak_bytes": alone["peak_bytes"],
                    "memory_in_models": ours["peak_bytes_beyond_imports"] / model,
                    "peak_against_one_models": ours["peak_bytes"] / alone["peak_bytes"],
                }
            )
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("search", "one_model", "peers"))
    parser.add_argument("--root", type=Path)
    parser.add_argument("--only", choices=("experts", "loras"))
    arguments = parser.parse_args()
    if arguments.part:
        config = json.loads((arguments.root / "config.json").read_text())
        run = {"search": search, "one_model": lambda config, rounds: one_model(config), "peers": peers}[arguments.part]
        print(json.dumps(run(config, arguments.rounds)))
    else:
        from machine import write

        result: dict[str, Any] = {}
        if arguments.only != "experts":
            result["loras"] = loras(arguments.rounds)
        if arguments.only != "loras":
            result["experts"] = experts(arguments.tokens, arguments.population, arguments.rounds)
        write("batched", result)
