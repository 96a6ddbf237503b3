"""A Hugging Face checkpoint folder: config.json and safetensors, found through the index.

Opening reads the headers only and checks that folder, index and shards agree; reading takes one tensor, or
some rows of one, into memory at a time.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxmerge.converters.reference import Location
from jaxmerge.converters.safetensors_header import REMEDY, TensorInfo, read_header, unique_keys
from jaxmerge.errors import CheckpointError, InputError

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
FLAX_MARKER = "jaxmerge.json"


@dataclass(frozen=True)
class Checkpoint:
    """folder: where it lies. config: its config.json. tensors: all its tensors by name, in the files'
    order."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Checkpoint":
        """Read headers and config. InputError where there is no such folder, CheckpointError where its
        contents are missing, corrupt or inconsistent."""
        folder = Path(folder)
        config = read_config(folder)
        require_inside(folder, CONFIG, INDEX, SINGLE)
        index, single = folder / INDEX, folder / SINGLE
        if index.is_file():
            return cls(folder, config, _read_sharded(folder, index))
        if single.is_file():
            return cls(folder, config, read_header(single))
        raise CheckpointError(_nothing_to_read(folder))

    @property
    def location(self) -> Location:
        return Location(self.folder)

    def info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(
                f"{self.folder}: tensor '{name}' is missing; check that config.json belongs to these weights"
            ) from None

    def read(self, name: str) -> np.ndarray:
        """A whole tensor in its own dtype (bfloat16 is `ml_dtypes.bfloat16`), as an array of its own."""
        return read_tensor(name, self.info(name))

    def view(self, name: str) -> np.ndarray:
        """The same, mapped from the file and read-only: what is looked at is read, and can be let go again."""
        info = self.info(name)
        if not info.nbytes:
            return self.read(name)
        try:
            return np.memmap(info.file, info.dtype, "r", info.offset, info.shape)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{info.file}: tensor '{name}' cannot be mapped ({error}); {REMEDY}") from error

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of the first axis; only their bytes are read."""
        return read_tensor_rows(name, self.info(name), start, stop)


def read_tensor(name: str, info: TensorInfo) -> np.ndarray:
    """name: what an error calls it."""
    return _read_bytes(name, info, info.offset, info.nbytes).view(info.dtype).reshape(info.shape)


def read_tensor_rows(name: str, info: TensorInfo, start: int, stop: int) -> np.ndarray:
    rows = info.shape[0]
    start, stop, _ = slice(start, stop).indices(rows)
    stop = max(start, stop)
    row = info.nbytes // rows if rows else 0
    data = _read_bytes(name, info, info.offset + start * row, (stop - start) * row)
    return data.view(info.dtype).reshape(stop - start, *info.shape[1:])


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. InputError where there is no folder, CheckpointError where it has none."""
    if not folder.is_dir():
        what = "is a file, a checkpoint is a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; name a folder with config.json and safetensors")
    file = folder / CONFIG
    if not file.is_file() and (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: is a LoRA, no model; name it behind the model it is for: MODEL+{folder}")
    if not file.is_file():
        raise CheckpointError(f"{folder}: has no config.json; name a folder that transformers can load")
    config = read_json(file)
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: is not a JSON object; {REMEDY}")
    return config


def read_json(file: Path, *, strict: bool = False) -> Any:
    """A JSON file of a checkpoint; CheckpointError where it is unreadable or, if strict, names a key twice."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique_keys if strict else None)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is not valid JSON ({error}); {REMEDY}") from error


def _read_sharded(folder: Path, index: Path) -> dict[str, TensorInfo]:
    content = read_json(index, strict=True)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no 'weight_map'; {REMEDY}")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not stays_inside(shard):
            raise CheckpointError(f"{index}: places tensor '{name}' in {shard!r}, outside the folder; correct it")
    shards = list(dict.fromkeys(weight_map.values()))
    if (folder / SINGLE).exists() and SINGLE not in shards:
        raise CheckpointError(f"{folder}: has both {SINGLE} and {INDEX}, which differ; remove the outdated one")
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        require_inside(folder, shard)
        if not (folder / shard).is_file():
            raise CheckpointError(f"{index}: names the shard {shard}, which is missing; fetch it")
        for name, info in read_header(folder / shard).items():
            if name in tensors:
                other = tensors[name].file.name
                raise CheckpointError(f"{folder}: tensor '{name}' is in {other} and in {shard}; remove one")
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{index}: lacks tensor '{name}' of {shard}; write the index again")
            tensors[name] = info
    for name, shard in weight_map.items():
        if name not in tensors:
            raise CheckpointError(f"{index}: tensor '{name}' is not in {shard}; {REMEDY}")
    return tensors


def require_inside(folder: Path, *names: str) -> None:
    """Raises CheckpointError for a file that is a link out of the folder: a checkpoint that was fetched must not pass
    on files of this machine. The hub's cache consists of links, from models--org--name/snapshots/COMMIT to its blobs.
    """
    home = folder.resolve()
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        home = home.parent.parent
    for name in names:
        if not (folder / name).resolve().is_relative_to(home):
            raise CheckpointError(f"{folder / name}: is a link out of the folder; put the file itself there")


def stays_inside(shard: str) -> bool:
    """By its name alone."""
    path = PurePosixPath(shard)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\\" not in shard


def _read_bytes(name: str, info: TensorInfo, offset: int, count: int) -> np.ndarray:
    try:
        data = np.fromfile(info.file, np.uint8, count, offset=offset)
    except OSError as error:
        raise CheckpointError(f"{info.file}: tensor '{name}' cannot be read ({error.strerror or error})") from error
    if data.size != count:
        raise CheckpointError(f"{info.file}: truncated within tensor '{name}'; {REMEDY}")
    return data


def _nothing_to_read(folder: Path) -> str:
    if (folder / FLAX_MARKER).is_file():
        return f"{folder}: is a Flax folder; first run: jaxmerge convert {folder} NEW_FOLDER"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        return (
            f"{folder}: has pickled weights only, which may run code and are not read; `jaxmerge merge --allow-pickle` "
            "reads a pytorch_model.bin as tensors only; or convert them with "
            f"transformers: AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained(NEW_FOLDER)"
        )
    return f"{folder}: has neither {SINGLE} nor {INDEX}; name a folder with safetensors"
