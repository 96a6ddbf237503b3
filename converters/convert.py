"""Hugging Face folder to Flax folder and back, bit for bit."""

from pathlib import Path

import jax
from jax.sharding import SingleDeviceSharding

from jaxmerge.converters import flax_folder
from jaxmerge.converters.flax_folder import FlaxFolder
from jaxmerge.converters.hf import save_params
from jaxmerge.converters.model import load_model
from jaxmerge.converters.output_folder import require_absent
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, parse_size
from jaxmerge.errors import InputError


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    force: bool = False,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
) -> str:
    """Convert the model in `src` to `dst` and return what `dst` is: "flax" or "huggingface".

    The direction follows from `src`: a Flax folder has jaxmerge.json. Every tensor keeps its dtype and bits,
    the other files travel along. The parameters are held in host memory, never on an accelerator. Raises
    InputError where `dst` exists and not `force`, or the disk is full; CheckpointError where `src` is
    unsound.
    """
    src, dst = Path(src), Path(dst)
    if src.absolute() == dst.absolute():
        raise InputError(f"{dst}: is the source itself; name another output")
    require_absent(dst, force=force)
    parse_size(max_shard_size)
    host = SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    model = load_model(src, place=lambda _: host)
    if isinstance(model.source, FlaxFolder):
        save_params(
            model.params, model.table, dst, like=model.source, max_shard_size=max_shard_size, force=force
        )
        return "huggingface"
    flax_folder.save(model.params, dst, like=model.source, force=force)
    return "flax"
