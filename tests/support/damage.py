"""Ways to spoil a model's folder or a config, each with what the user is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from miniature import CONFIG
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.documents import write_yaml

NORM = "model.layers.1.input_layernorm.weight"


def change_yaml(file: Path, *keys: str | int, value: Any) -> None:
    data = target = YAML(typ="safe").load(file.read_text())
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    file.write_text(write_yaml(data))


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_tensors(model: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def change_header(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = model / "model.safetensors"
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def without(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def do(model: Path) -> None:
        (model / name).write_bytes(content)

    return do


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def lacking_a_shard(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    weight_map = {NORM: "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def cut(keep: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda model: os.truncate(model / "model.safetensors", keep((model / "model.safetensors").stat().st_size))


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda model: change_header(model, change)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (without("config.json"), "has no config.json"),
    "config.json is no JSON": (written("config.json", b"{"), "config.json: is not valid JSON"),
    "config.json is a list": (written("config.json", b"[]"), "config.json: is not a JSON object"),
    "no weights": (without("model.safetensors"), "has neither model.safetensors nor model.safetensors.index.json"),
    "pickle": (pickled, "pickled weights only"),
    "missing shard": (lacking_a_shard, "names the shard model-00002-of-00002.safetensors, which is missing"),
    "truncated data": (cut(lambda size: size - 10), "model.safetensors: truncated"),
    "truncated header": (cut(lambda size: 40), "truncated within its header"),
    "empty file": (cut(lambda size: 0), "not a safetensors file"),
    "garbage": (written("model.safetensors", b"\x08" + b"\0" * 7 + b"not json"), "header is not valid JSON"),
    "huge header": (written("model.safetensors", b"\xff" * 64), "header of 18446744073709551615 bytes is too large"),
    "bytes behind": (lambda m: os.truncate(m / "model.safetensors", 10**6), "bytes after the last tensor"),
    "shape lies": (header(lambda h: h[NORM].update(shape=[17])), f"tensor '{NORM}'"),
    "offsets lie": (header(lambda h: h[NORM].update(data_offsets=[0, 64])), "tensor"),
    "sizes overflow": (header(lambda h: h[NORM].update(shape=[2**40, 2**40])), f"tensor '{NORM}'"),
    "negative shape": (header(lambda h: h[NORM].update(shape=[-16])), f"tensor '{NORM}'"),
    "unknown dtype": (header(lambda h: h[NORM].update(dtype="Q4")), f"tensor '{NORM}' has the unsupported dtype Q4"),
}


def tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    return lambda model: change_tensors(model, change)


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (tensors(lambda t: t.pop(NORM)), f"tensor '{NORM}' is missing"),
    "extra": (tensors(lambda t: t.update(extra=t[NORM])), "tensor 'extra' is not a part of this architecture"),
    "wrong shape": (tensors(lambda t: t.update({NORM: t[NORM][:8]})), f"tensor '{NORM}' is [8] but"),
    "integers": (tensors(lambda t: t.update({NORM: t[NORM].astype(np.int32)})), f"'{NORM}'"),
}


def sized(**changes: Any) -> Callable[[Path], None]:
    """A model that is sound in itself, and of another size than the others."""
    def do(model: Path) -> None:
        change_json(model / "config.json", **changes)
        architecture = architecture_of(CONFIG)
        table = architecture.table(architecture.read(CONFIG | changes))
        every = {n: np.ones(p.shape, np.float32) for p in table for n in p.names(table.num_layers)}
        save_file(every, model / "model.safetensors", metadata={"format": "pt"})

    return do
