"""Tiny checkpoints of every family, made by numpy and written by the safetensors library."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxmerge.architectures.registry import architecture_of

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


def config_of(family: str, *, tied: bool = False, dtype: str = "float32", num_layers: int = 3) -> dict:
    return {
        "architectures": [{"llama": "Llama", "mistral": "Mistral"}.get(family, family.title()) + "ForCausalLM"],
        "model_type": family,
        "vocab_size": 48,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "eos_token_id": [1, 2, 3],
        "torch_dtype": dtype,
    }


def random_tensors(config: dict, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    architecture = architecture_of(config)
    table = architecture.table(architecture.read(config))
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=parameter.shape).astype(DTYPES[dtype])
        for parameter in table
        for name in parameter.names(table.num_layers)
    }


def write_checkpoint(folder: Path, config: dict, tensors: dict[str, np.ndarray], shards: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    names = list(tensors)
    files = ["model.safetensors"] if shards == 1 else [f"part-{i}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        safetensors.numpy.save_file({name: tensors[name] for name in names[i::shards]}, folder / file)
    if shards > 1:
        weight_map = {name: files[i % shards] for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture
def make_checkpoint(tmp_path):
    """`make(family, tied=, dtype=, shards=, change=)`: a folder; `change(tensors)` edits the tensors
    first."""

    def make(family="llama", *, tied=False, dtype="float32", shards=1, name="model", seed=0, change=None, **config):
        settings = config_of(family, tied=tied, dtype=dtype) | config
        tensors = random_tensors(settings, dtype, seed)
        if change:
            change(tensors)
        return write_checkpoint(tmp_path / name, settings, tensors, shards)

    return make


@pytest.fixture
def read_all():
    """`read_all(folder)`: every tensor, by the safetensors library as an independent reader."""

    def read(folder: Path) -> dict[str, np.ndarray]:
        files = sorted(folder.glob("*.safetensors"))
        return {k: v for file in files for k, v in safetensors.numpy.load_file(file).items()}

    return read


@pytest.fixture
def same_bits():
    """`same_bits(a, b)`: whether two dictionaries of arrays agree in names, dtypes, shapes and every bit."""

    def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
        return set(a) == set(b) and all(
            (a[k].dtype, a[k].shape, a[k].tobytes()) == (b[k].dtype, b[k].shape, b[k].tobytes()) for k in a
        )

    return same
