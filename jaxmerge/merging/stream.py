"""From disk to disk, one output tensor at a time: the next is read while one is merged and the last one written."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, ShardWriter
from jaxmerge.merging.tensor import TILE, Inputs, Masks, load, merge
from jaxmerge.operators.interface import nothing
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.tensors import TensorPlan

# Inputs of two tensors are held at once only if they are smaller than this together.
AHEAD = 1 << 30
Progress = Callable[[int, int], None]


def stream(
    plan: Plan,
    folder: Path,
    *,
    masks: Masks | None = None,
    progress: Progress | None = None,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
) -> None:
    """Merge all tensors of the plan into safetensors in `folder`, but for shards that it has already. progress: called
    with bytes done and bytes in all."""
    entries = [(tensor.name, tensor.dtype, tensor.shape) for tensor in plan.tensors]
    # The pools end before the writer does: it must not close beneath a thread that writes.
    with (
        ShardWriter(folder, entries, max_shard_size, keep=True) as writer,
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as writing,
    ):
        tensors = [tensor for tensor in plan.tensors if writer.wanted(tensor.name)]
        done = plan.nbytes - sum(tensor.nbytes for tensor in tensors)
        ahead: Future[Inputs] | None = None
        written: Future[None] | None = None
        for tensor, following in zip(tensors, [*tensors[1:], None], strict=True):
            inputs = ahead.result() if ahead else reading.submit(load, plan, tensor, masks).result()
            ahead = None
            if following and input_bytes(plan, tensor) + input_bytes(plan, following) <= AHEAD:
                ahead = reading.submit(load, plan, following, masks)
            array = merge(plan, tensor, inputs)
            if written:
                written.result()
            written = writing.submit(_write, writer, tensor.name, array)
            del inputs, array
            done += tensor.nbytes
            if progress:
                progress(done, plan.nbytes)
        if written:
            written.result()


def _write(writer: ShardWriter, name: str, array: np.ndarray) -> None:
    writer.write(name, array)


def input_bytes(plan: Plan, tensor: TensorPlan) -> int:
    """Host memory that a tensor's inputs take."""
    elements = int(np.prod(tensor.shape, dtype=np.int64))
    return sum(elements * plan.itemsize(piece) for piece in (*tensor.donors, *tensor.pieces))


def peak_bytes(plan: Plan) -> int:
    """An estimate of the host memory of a merge, without the interpreter: inputs of two tensors where they are small
    enough, what `prepare` keeps of whole tensors in float32, the tiles at work, and two outputs."""
    peak = 0
    for tensor, following in zip(plan.tensors, [*plan.tensors[1:], None], strict=True):
        elements = int(np.prod(tensor.shape, dtype=np.int64))
        own = input_bytes(plan, tensor)
        beside = 0 if following is None else input_bytes(plan, following)
        prepares = not tensor.copied and plan.operator.prepare is not nothing
        kept = plan.operator.element_bytes(len(tensor.sources))
        prepared = (4 * (len(tensor.sources) + 1) + kept) * elements if prepares else 0
        tile = 4 * min(elements, TILE) * (len(tensor.pieces) + 1)
        held = own + (beside if own + beside <= AHEAD else 0)
        peak = max(peak, held + prepared + tile + 2 * tensor.nbytes)
    return peak
