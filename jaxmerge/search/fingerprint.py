"""Hashes that tell whether data or a model is still the same."""

from pathlib import Path

import xxhash

from jaxmerge.converters.checkpoint import ADAPTER_CONFIG, CONFIG
from jaxmerge.converters.companions import MODEL, TOKENIZER
from jaxmerge.converters.reference import Location
from jaxmerge.errors import InputError

# Of a weights file so many blocks, evenly spaced, are read: enough to tell a fine-tune from another in milliseconds.
BLOCKS = 64
BLOCK = 4096


def hash_of_file(file: Path) -> str:
    """Of all its bytes. Raises InputError where it cannot be read."""
    digest = xxhash.xxh3_64()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    return f"xxh3:{digest.hexdigest()}"


def hash_of_model(location: Location) -> dict[str, str | None]:
    """What identifies a model: its revision where it is a snapshot of the hub, config.json, and its weights, of which
    the sizes and samples are read; and the same of a LoRA on it."""
    hashes = _hashes(location.folder, CONFIG)
    if location.adapter is not None:
        hashes |= {f"lora_{key}": value for key, value in _hashes(location.adapter, ADAPTER_CONFIG).items()}
    return hashes


def _hashes(folder: Path, config: str) -> dict[str, str | None]:
    hashes: dict[str, str | None] = {"config": hash_of_file(folder / config)}
    weights = xxhash.xxh3_64()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        _sample(file, weights)
    if files:
        hashes["weights"] = f"xxh3:{weights.hexdigest()}"
    # A snapshot of the hub lies in a folder that is named by its commit.
    return {"revision": folder.name if folder.parent.name == "snapshots" else None, **hashes}


def hash_of_tokenizer(folder: Path, patterns: tuple[str, ...] = (*TOKENIZER, *MODEL)) -> str:
    """Of all files that say how text becomes tokens and which of them end it, the chat template among them."""
    digest = xxhash.xxh3_64()
    for pattern in patterns:
        for file in sorted(folder.glob(pattern)):
            digest.update(f"{file.relative_to(folder)} {hash_of_file(file)} ".encode())
    return f"xxh3:{digest.hexdigest()}"


def _sample(file: Path, digest: "xxhash.xxh3_64") -> None:
    size = file.stat().st_size
    digest.update(f"{file.name} {size} ".encode())
    with file.open("rb") as stream:
        # The header first, then blocks up to the very end.
        digest.update(stream.read(BLOCK))
        for i in range(BLOCKS):
            stream.seek(max(0, size - BLOCK) * i // (BLOCKS - 1))
            digest.update(stream.read(BLOCK))
