"""A base and two experts as Hugging Face folders, with a tokenizer, data and an evolve config: all tiny and random."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from miniature import CONFIG, InMemory, checkpoints
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from tokenizers import models, pre_tokenizers

# One that is scored by likelihood, and one by what is written.
OBJECTIVES = [
    {
        "name": name,
        "kind": kind,
        "prompt": "{question}",
        "answer": " {answer}",
        "data": {split: f"{split}.jsonl" for split in ("search", "validation", "test")},
        **extra,
    }
    for name, kind, extra in (
        ("copy", "likelihood", {}),
        ("say", "generate", {"metric": "contains", "max_new_tokens": 6}),
    )
]
WORDS = [f"w{i}" for i in range(4, 37)]


def write_world(root: Path, **changes: Any) -> Path:
    """Writes models/{base,a,b}, data and evolve.yaml under `root`; gives the config's path.

    changes: top-level keys of the config that are replaced, or merged where both are mappings; a space of a given kind
    replaces the space.
    """
    base, experts = checkpoints(np.float32)
    for name, checkpoint in zip(("base", "a", "b"), (base, *experts), strict=True):
        write_model(root / "models" / name, checkpoint)
    rng = np.random.default_rng(5)
    for split, count in (("search", 8), ("validation", 8), ("test", 8)):
        write_examples(root / f"{split}.jsonl", rng, count)
    config: dict[str, Any] = {
        "models": {"a": "models/a", "b": "models/b"},
        "base": "models/base",
        "space": {"operator": "task_arithmetic", "parameters": {"weight": [-0.3, 1.8]}},
        "objectives": [
            {
                "name": "copy",
                "kind": "likelihood",
                "prompt": "{question}",
                "answer": " {answer}",
                "data": {split: f"{split}.jsonl" for split in ("search", "validation", "test")},
            }
        ],
        "search": {"population": 4, "generations": 3, "seed": 1},
        "runtime": {"dtype": "float32"},
    }
    if "kind" in changes.get("space", {}):
        del config["space"]
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) and isinstance(config.get(key), dict) else value
    path = root / "evolve.yaml"
    with path.open("w") as stream:
        YAML(typ="safe").dump(config, stream)
    return path


def write_model(folder: Path, checkpoint: InMemory) -> None:
    folder.mkdir(parents=True)
    save_file(dict(checkpoint.tensors), folder / "model.safetensors", metadata={"format": "pt"})
    config = CONFIG | {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"})
    )


def write_examples(file: Path, rng: np.random.Generator, count: int) -> None:
    """Prompts and answers that fit one bucket, and as many in each split: one program serves them all."""
    rows = []
    for _ in range(count):
        words = rng.choice(WORDS, rng.integers(3, 7)).tolist()
        rows.append({"question": " ".join(words), "answer": " ".join(words[:2])})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
