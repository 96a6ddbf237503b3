"""Hugging Face folder to Flax folder and back, bit for bit."""

from pathlib import Path

from jaxmerge.converters import flax_folder, hf
from jaxmerge.converters.flax_folder import FlaxFolder
from jaxmerge.converters.model import layout_of, open_model
from jaxmerge.converters.output_folder import require_absent, require_apart
from jaxmerge.converters.reference import resolve
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, parse_size
from jaxmerge.errors import InputError


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    force: bool = False,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
) -> str:
    """Convert the model `src` to the folder `dst` and return what that is: "flax" or "huggingface".

    src: a folder or hub id, also with a LoRA; what it is decides the direction: a Flax folder has jaxmerge.json.
    Every tensor keeps its dtype and bits (a LoRA is added first), the other files travel along. One parameter after
    another is read and written: host memory holds two or three times the largest stacked array (Orbax keeps what it
    encodes) and not the model, and no accelerator is used.
    Raises InputError where `dst` exists and not `force`, or the disk is full; CheckpointError where `src` is unsound.
    """
    dst = Path(dst)
    if Path(src).absolute() == dst.absolute():
        raise InputError(f"{dst}: is the source itself; name another output")
    require_absent(dst, force=force)
    parse_size(max_shard_size)
    location = resolve(str(src), relative_to=[Path()])
    require_apart(dst, [location])
    source = open_model(location)
    _, table = layout_of(source)
    if isinstance(source, FlaxFolder):
        params = flax_folder.lazy_params(source, table)
        hf.save_params(params, table, dst, like=source, max_shard_size=max_shard_size, force=force)
        return "huggingface"
    flax_folder.save(hf.lazy_params(source, table), dst, like=source, force=force)
    return "flax"
