"""Writes safetensors one tensor at a time: header first, from the shapes, then the bytes.

Host memory never holds more than the tensor at hand. Files carry the suffix `.tmp` until all is written; then
they are renamed, the index last.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from jaxmerge.converters.checkpoint import INDEX, SINGLE
from jaxmerge.converters.output_folder import full_disk_named
from jaxmerge.converters.safetensors_header import CODES
from jaxmerge.errors import InputError

Entry = tuple[str, np.dtype, tuple[int, ...]]
DEFAULT_SHARD_SIZE = 5_000_000_000
UNITS = (
    {"": 1, "B": 1}
    | {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)}
    | {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", 1)}
)


def parse_size(size: int | str) -> int:
    """Bytes of `5GB`, `512MiB` or a plain number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(size), re.IGNORECASE)
    count = int(float(match[1]) * UNITS.get(match[2].upper(), 0)) if match else 0
    if count <= 0:
        raise InputError(f"'{size}' is not a size; write for instance 5GB or 512MiB")
    return count


@dataclass(frozen=True)
class _Shard:
    entries: tuple[Entry, ...]
    header: bytes
    offsets: dict[str, int]

    @property
    def size(self) -> int:
        return len(self.header) + sum(map(_nbytes, self.entries))


class ShardWriter:
    """Context manager that writes `entries` (name, dtype, shape), given to `write` in this order, to
    `folder`.

    One file `model.safetensors` where all fits into `max_shard_size` bytes (a number or '5GB'), else numbered
    shards and an index; a tensor larger than that has a shard of its own. Nothing carries its final name
    until the block ends without error and every tensor was written; otherwise what was written is removed.
    keep: a shard gets its name as soon as it is written and stays whatever comes; one that is there already is left as
    it is, and its tensors are not `wanted`. Raises InputError where the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        entries: Sequence[Entry],
        max_shard_size: int | str = DEFAULT_SHARD_SIZE,
        *,
        keep: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self._keep = keep
        self._entries = [(name, np.dtype(dtype), tuple(map(int, shape))) for name, dtype, shape in entries]
        if len({name for name, _, _ in self._entries}) != len(self._entries):
            raise ValueError("a tensor name occurs twice among the entries")
        self._shards = [_lay_out(group) for group in _group(self._entries, parse_size(max_shard_size))]
        count = len(self._shards)
        self._names = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
        if count == 1:
            self._names = [SINGLE]
        self._place = {
            name: (index, offset) for index, shard in enumerate(self._shards) for name, offset in shard.offsets.items()
        }
        shards = zip(self._names, self._shards, strict=True)
        there = (i for i, (name, shard) in enumerate(shards) if keep and _is_there(self.folder / name, shard))
        self._there = frozenset(there)
        self._wanted = [entry for entry in self._entries if self.wanted(entry[0])]
        self._written = 0
        self._open: tuple[int, BinaryIO] | None = None
        self._last: Path | None = None

    @property
    def names(self) -> list[str]:
        """Names of the safetensors files that come about."""
        return list(self._names)

    def wanted(self, name: str) -> bool:
        """Whether a tensor is to be written: it stands in no shard that is there already."""
        return self._place[name][0] not in self._there

    def __enter__(self) -> "ShardWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        need = sum(shard.size for index, shard in enumerate(self._shards) if index not in self._there)
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise InputError(f"{self.folder}: no space left, needs {need} bytes and has {free}; free some")
        return self

    def write(self, name: str, array: Any) -> None:
        """Write the next wanted tensor, as announced in dtype and shape. Arrays of JAX are fetched to the host."""
        if self._written == len(self._wanted):
            raise ValueError(f"tensor '{name}' comes after the last one announced")
        expected, dtype, shape = self._wanted[self._written]
        # Layout matters: only the bytes of a C-contiguous array stand in the order of its elements.
        array = np.asarray(array, order="C")
        if (name, array.dtype, array.shape) != (expected, dtype, shape):
            raise ValueError(
                f"expected tensor '{expected}' {dtype} {shape}, but got '{name}' {array.dtype} {array.shape}"
            )
        with full_disk_named(self.folder):
            stream = self._stream(self._place[name][0])
            stream.seek(self._place[name][1])
            # Not `tofile`, whose error does not say that the disk is full.
            stream.write(array.reshape(-1).view(np.uint8).data)
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        files = [self.folder / name for name in (*self._names, *([INDEX] if len(self._names) > 1 else []))]
        with ExitStack() as cleanup, full_disk_named(self.folder):
            for file in files:
                cleanup.callback(_part(file).unlink, missing_ok=True)
            if kind is None and not self._entries:
                self._stream(0)
            self._close()
            if kind is not None:
                return
            if self._written != len(self._wanted):
                raise ValueError(f"{len(self._wanted) - self._written} tensors were not written")
            if len(self._names) > 1:
                self._write_index(_part(self.folder / INDEX))
            for file in files:
                if _part(file).exists():
                    os.replace(_part(file), file)

    def _stream(self, index: int) -> BinaryIO:
        if self._open is None or self._open[0] != index:
            self._close()
            if self._keep and self._last is not None:
                os.replace(_part(self._last), self._last)
            self._last = self.folder / self._names[index]
            stream = open(_part(self.folder / self._names[index]), "wb")  # noqa: SIM115 (closed by _close)
            self._open = index, stream
            stream.write(self._shards[index].header)
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            stream, self._open = self._open[1], None
            with stream:
                stream.flush()
                os.fsync(stream.fileno())

    def _write_index(self, file: Path) -> None:
        weight_map = {name: self._names[self._place[name][0]] for name, _, _ in self._entries}
        total = sum(map(_nbytes, self._entries))
        content = {"metadata": {"total_size": total}, "weight_map": weight_map}
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _is_there(file: Path, shard: _Shard) -> bool:
    """Whether a shard is written. One that has its name is whole: it got it after the last byte was on the disk."""
    try:
        with open(file, "rb") as stream:
            return file.stat().st_size == shard.size and stream.read(len(shard.header)) == shard.header
    except OSError:
        return False


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".tmp")


def _nbytes(entry: Entry) -> int:
    return math.prod(entry[2]) * entry[1].itemsize


def _group(entries: list[Entry], limit: int) -> list[list[Entry]]:
    """Consecutive entries that fit into a shard together; at least one group."""
    groups: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if groups[-1] and size + _nbytes(entry) > limit:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += _nbytes(entry)
    return groups


def _lay_out(entries: list[Entry]) -> _Shard:
    """Header and offsets in the file. Wider dtypes lie first, so that every tensor is aligned to its item
    size, which torch needs; the order of writing stays the caller's."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    relative: dict[str, int] = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: -entry[1].itemsize):
        name, dtype, shape = entry
        end = position + _nbytes(entry)
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        relative[name] = position
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    prefix = len(text).to_bytes(8, "little") + text
    return _Shard(tuple(entries), prefix, {name: len(prefix) + offset for name, offset in relative.items()})
