"""PyTorch's pickled weights, read without running what a pickle may ask for, and without torch.

torch.save writes a zip archive: `data.pkl`, which describes the tensors, and a record of plain bytes for each storage.
The pickle is read with nothing in reach but what describes tensors (as torch's `weights_only` does), and only tells
where in the file each tensor lies.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint, read_config, read_json, require_inside, stays_inside
from jaxmerge.converters.safetensors_header import REMEDY, TensorInfo
from jaxmerge.errors import CheckpointError

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
STORAGES: dict[str, np.dtype] = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "HalfStorage": np.dtype(np.float16),
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
CONVERT = "convert it with transformers' save_pretrained where you trust it"


@dataclass(frozen=True)
class _Tensor:
    """record: of its storage. start, strides: in elements."""

    dtype: np.dtype
    record: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        expected = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        wrong = (n > 1 and own != due for n, own, due in zip(self.shape, self.strides, expected, strict=True))
        return 0 in self.shape or not any(wrong)


class _Reader(pickle.Unpickler):
    """Knows the names that describe tensors, and refuses every other."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        super().__init__(stream)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) not in known:
            raise CheckpointError(
                f"{self._file}: holds more than tensors ({module}.{name}), which is not run; {CONVERT}"
            )
        return known[module, name]

    def persistent_load(self, given: Any) -> tuple[np.dtype, str]:
        _, dtype, record, *_ = given
        return dtype, str(record)


def _rebuilt(storage: tuple[np.dtype, str], start: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(*storage, start, tuple(shape), tuple(strides))


def is_pickled(folder: Path) -> bool:
    """Whether a folder has pickled weights and no others."""
    return not any(folder.glob("*.safetensors")) and any((folder / name).is_file() for name in (SINGLE, INDEX))


def open_pickled(folder: Path) -> Checkpoint:
    """Raises CheckpointError naming the file that holds anything but tensors, or the tensor that cannot be read."""
    config = read_config(folder)
    tensors: dict[str, TensorInfo] = {}
    for file in _files(folder):
        tensors |= _tensors(file)
    return Checkpoint(folder, config, tensors)


def _files(folder: Path) -> list[Path]:
    names = [SINGLE]
    if (folder / INDEX).is_file():
        content = read_json(folder / INDEX, strict=True)
        shards = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(s, str) and stays_inside(s) for s in shards.values()):
            raise CheckpointError(f"{folder / INDEX}: has no 'weight_map' to files of the folder; {REMEDY}")
        names = list(dict.fromkeys(shards.values()))
    require_inside(folder, *names)
    return [folder / name for name in names]


def _tensors(file: Path) -> dict[str, TensorInfo]:
    try:
        with zipfile.ZipFile(file) as archive, open(file, "rb") as raw:
            records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            with archive.open(records["data.pkl"]) as stream:
                content = _Reader(stream, file).load()  # type: ignore[arg-type]
            if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
                raise CheckpointError(f"{file}: was saved on a big-endian machine; {CONVERT}")
            if not isinstance(content, dict) or not all(isinstance(t, _Tensor) for t in content.values()):
                raise CheckpointError(f"{file}: is not a dictionary of tensors; save the model's state_dict()")
            return {str(name): _info(file, str(name), tensor, records, raw) for name, tensor in content.items()}
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error
    # A pickle of anything at all: whatever its operations raise.
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
    ) as e:
        raise CheckpointError(f"{file}: is not an archive of tensors as torch writes it; {REMEDY}, or {CONVERT}") from e


def _info(file: Path, name: str, tensor: _Tensor, records: dict[str, zipfile.ZipInfo], raw: BinaryIO) -> TensorInfo:
    record = records[f"data/{tensor.record}"]
    info = TensorInfo(tensor.dtype, tensor.shape, file, 0)
    start = tensor.start * tensor.dtype.itemsize
    if record.compress_type != zipfile.ZIP_STORED or not tensor.contiguous:
        raise CheckpointError(f"{file}: tensor '{name}' is compressed or not contiguous; {CONVERT}")
    if start < 0 or min(tensor.shape, default=0) < 0 or start + info.nbytes > record.file_size:
        raise CheckpointError(f"{file}: tensor '{name}' leaves its storage; {REMEDY}")
    raw.seek(record.header_offset)
    header = raw.read(30)
    # The bytes come behind the record's own header, its name and its padding.
    skipped = len(header) + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return TensorInfo(tensor.dtype, tensor.shape, file, record.header_offset + skipped + start)
