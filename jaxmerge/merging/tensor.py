"""One output tensor: its inputs read and checked, prepared, merged tile by tile, rounded once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxmerge.converters.finite import is_finite, require_finite
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.operators.arithmetic import storable
from jaxmerge.operators.interface import Prepared, Request, Sources
from jaxmerge.operators.whole_tensor import merge_tile
from jaxmerge.recipe.dtypes import is_float
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.tensors import Piece, TensorPlan

# Elements of a source that are widened to float32 at once: 64 MiB.
TILE = 1 << 24
# Recorded random draws by `<tensor>::<name of the model folder>`, to be used in place of our own.
Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Inputs:
    """arrays: the tensor of each piece. prepared: what the operator computed from the whole of them."""

    arrays: dict[Piece, np.ndarray]
    prepared: Prepared


def load(plan: Plan, tensor: TensorPlan, masks: Masks | None = None) -> Inputs:
    """Read and prepare. Raises CheckpointError where an input is NaN, infinite, or too large for the recipe's dtype."""
    arrays = {piece: _read(plan, piece) for piece in tensor.donors or tensor.pieces}
    if tensor.donors and plan.vocabulary is not None:
        donated = {piece.model: array for piece, array in arrays.items()}
        rows = plan.vocabulary.rows
        arrays = {piece: rows[piece.model].take(piece.model, donated) for piece in tensor.pieces}
    if tensor.copied:
        _require_equal(plan, tensor, arrays)
        return Inputs(arrays, Prepared())
    base = None if tensor.base is None else np.atleast_1d(arrays[tensor.base])
    sources = tuple(np.atleast_1d(arrays[piece]) for piece in tensor.sources)
    grid = {p.name: tuple(tensor.params[p.name].reshape(-1, 1)) for p in plan.operator.parameters if p.gridded}
    name = (tensor.base or tensor.sources[0]).name
    recorded = (
        None if masks is None else tuple(_recorded(plan, piece, masks, sources[0].shape) for piece in tensor.sources)
    )
    return Inputs(arrays, plan.operator.prepare(Sources(base, sources), Request(name, plan.seed, grid, recorded)))


def merge(plan: Plan, tensor: TensorPlan, inputs: Inputs) -> np.ndarray:
    """The output tensor in its dtype. Raises InputError where that cannot hold the result."""
    if tensor.copied:
        return _rounded(plan, tensor, inputs.arrays[tensor.sources[0]])
    base = None if tensor.base is None else _arranged(plan, inputs.arrays[tensor.base])
    sources = tuple(_arranged(plan, inputs.arrays[piece]) for piece in tensor.sources)
    fields = {
        name: tuple(_arranged(plan, array) for array in of_sources)
        for name, of_sources in inputs.prepared.fields.items()
    }
    params = {name: jnp.asarray(value, jnp.float32) for name, value in tensor.params.items()}
    shape = sources[0].shape
    rows = np.arange(math.prod(shape[:-1]), dtype=np.uint32).reshape(shape[:-1])
    result = np.empty(shape, tensor.dtype)
    for cut in [...] if plan.operator.scope == "tensor" else tiles(*shape):
        merged = merge_tile(
            plan.operator,
            None if base is None else storable(base[cut]),
            tuple(storable(source[cut]) for source in sources),
            rows[cut],
            {name: tuple(array[cut] for array in of_sources) for name, of_sources in fields.items()},
            inputs.prepared.stats,
            params,
        )
        result[cut] = _rounded(plan, tensor, np.asarray(merged))
    return result.reshape(tensor.shape)


def tiles(rows: int, columns: int) -> list[slice]:
    """Ranges of rows that cover a tensor, all of one length so that one program serves them; the last may overlap the
    one before it, which gives the same values again.
    """
    if rows == 0 or columns == 0:
        return []
    count = min(rows, -(-rows * columns // TILE))
    length = -(-rows // count)
    return [slice(start, start + length) for start in (min(i * length, rows - length) for i in range(count))]


def _arranged(plan: Plan, array: np.ndarray) -> np.ndarray:
    """The array as rows along its last axis, of which tiles are cut; in its own shape for an operator of whole tensors,
    as a search gives it."""
    if plan.operator.scope == "tensor":
        return np.atleast_1d(array)
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _read(plan: Plan, piece: Piece) -> np.ndarray:
    checkpoint = plan.models[piece.model]
    array = checkpoint.read(piece.name)
    name = f"{checkpoint.info(piece.name).file}: tensor '{piece.name}'"
    require_finite(name, array)
    if plan.dtype is None or array.dtype == plan.dtype or not is_float(array.dtype):
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(plan.dtype)
    if not is_finite(cast):
        raise CheckpointError(f"{name} has values beyond {plan.dtype}; set dtype: bfloat16 or float32")
    return cast


def _recorded(plan: Plan, piece: Piece, masks: Masks, shape: tuple[int, ...]) -> np.ndarray:
    # A tensor that is not trimmed has no record.
    mask = masks.get(f"{piece.name}::{plan.models[piece.model].folder.name}")
    return np.ones(shape, np.uint8) if mask is None else mask.reshape(shape)


def _require_equal(plan: Plan, tensor: TensorPlan, arrays: Mapping[Piece, np.ndarray]) -> None:
    first, *others = tensor.sources
    for piece in others:
        if not np.array_equal(arrays[piece], arrays[first]):
            raise CheckpointError(
                f"{plan.models[piece.model].folder}: tensor '{piece.name}' of {arrays[piece].dtype} differs from "
                f"that of {plan.models[first.model].folder}; integers cannot be merged"
            )


def _rounded(plan: Plan, tensor: TensorPlan, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        result = array.astype(tensor.dtype, copy=False)
    if not is_finite(result):
        if is_finite(array):
            remedy = f"values beyond {tensor.dtype}; set out_dtype: bfloat16 or float32"
        else:
            remedy = f"NaN or infinite values; {plan.operator.undefined or 'choose smaller weights'}"
        raise InputError(f"tensor '{tensor.name}' of the merge has {remedy}")
    return result
