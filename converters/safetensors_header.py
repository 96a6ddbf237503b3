"""The header of a safetensors file, read and checked without touching the data.

Format: eight bytes (little-endian length of the header), the header (JSON: name -> dtype, shape,
data_offsets), the data without holes. A header that does not agree with itself or with the size of its file
is refused before a byte of data is read.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxmerge.errors import CheckpointError

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}

# The limit that the safetensors library sets, so that a wrong length is not taken for a request for memory.
MAX_HEADER = 100_000_000
REMEDY = "fetch or save the file again"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: its dtype and shape, the file and the first byte of its data in that file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    file: Path
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of `json.loads` that refuses a key given twice."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"'{key}' stands there twice")
        result[key] = value
    return result


def read_header(file: Path) -> dict[str, TensorInfo]:
    """All tensors of a safetensors file by name. CheckpointError naming the file, and the tensor if it is
    one."""
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8:
                raise CheckpointError(f"{file}: not a safetensors file ({size} bytes); {REMEDY}")
            if length > MAX_HEADER:
                raise CheckpointError(f"{file}: header of {length} bytes is too large; {REMEDY}")
            if 8 + length > size:
                raise CheckpointError(f"{file}: truncated within its header ({size} bytes); {REMEDY}")
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error}); {REMEDY}") from error
    try:
        header = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: header is not valid JSON ({error}); {REMEDY}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: header is not a JSON object; {REMEDY}")
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = {name: _tensor_info(file, name, entry, start) for name, entry in header.items()}
    _require_packed(file, tensors, start, size)
    return tensors


def _tensor_info(file: Path, name: str, entry: Any, start: int) -> TensorInfo:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: header entry of tensor '{name}' is malformed; {REMEDY}") from error
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise CheckpointError(f"{file}: shape or offsets of tensor '{name}' are no whole numbers; {REMEDY}")
    if not isinstance(code, str) or code not in DTYPES:
        raise CheckpointError(f"{file}: tensor '{name}' has the unsupported dtype {code}; save it in BF16, F16 or F32")
    info = TensorInfo(DTYPES[code], shape, file, start + begin)
    if end - begin != info.nbytes:
        raise CheckpointError(
            f"{file}: tensor '{name}' {code} {list(shape)} needs {info.nbytes} bytes but the header gives it "
            f"{end - begin}; {REMEDY}"
        )
    return info


def _require_packed(file: Path, tensors: dict[str, TensorInfo], start: int, size: int) -> None:
    """The data must fill the file from the header to its end, without overlap or hole."""
    position = start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != position:
            what = "overlaps another tensor" if info.offset < position else "leaves a hole before it"
            raise CheckpointError(f"{file}: data of tensor '{name}' {what}, the header is corrupt; {REMEDY}")
        position += info.nbytes
    if position > size:
        raise CheckpointError(f"{file}: truncated, {size} bytes of {position}; {REMEDY}")
    if position < size:
        raise CheckpointError(f"{file}: {size - position} bytes after the last tensor; {REMEDY}")
