"""The one interface of every merge operator.

An operator is two pure functions and a declaration.

`prepare(sources, request) -> Prepared` computes, once for a tensor, what does not depend on the recipe being
tried: thresholds and masked L1 norms on a grid of densities, norms, Gram matrices, ranks. It sees whole
tensors. `apply(tile, stats, params) -> array` merges an aligned tile of the sources. Every parameter is
traced, so one compiled program serves a whole search, and gradients flow. Tiling from disk, stacked layers,
merging inside the layer scan, sharding and kernels are wrappers around this function: none of them changes a
bit of its result, because all that depends on more than the tile comes from `prepare`, whose sums are exact
and therefore independent of order.

The interface was checked on paper against all of mergekit's operators:

| operator | prepare | apply |
|---|---|---|
| linear, task_arithmetic, passthrough, nearswap | nothing | element |
| ties, breadcrumbs(_ties) | thresholds and kept L1 on the density (x gamma) grid | element |
| dare_linear, dare_ties | mask key, kept L1 on the density grid | element |
| della, della_linear | ranks in rows as a field, mask key, kept L1 on the (density, epsilon) grid | element |
| slerp, multislerp, karcher, nuslerp (flat), model_stock | Gram matrix | element: a linear combination |
| nuslerp (last axis), model_stock filter_wise | angles or coefficients of rows, a field of one column | element |
| nuslerp (first axis) | an angle per column, `[columns]`, broadcast against the tile | element |
| sce | spread threshold on the select_topk grid, mean squares | element |
| arcee_fusion | divergence of rows, a field of one column; the importance threshold | element |
| ram | nothing | element |
| ramplus_tl | counts of shared and unique elements on the epsilon grid | element |
| emr | rescalers | element |
| pcb | scores as fields, thresholds on the ratio grid | element |
| cabs | masks as fields | element |
| tsv | what each source adds at weight 1, as fields | element |
| iso_c, iso_cts, wudi | the merged task vector as a field | element |
| a user's function | nothing | tensor |

and against gradients (only `jnp` arithmetic in `apply`), row-wise operators (`scope`) and Pallas (a kernel
replaces `apply` for a tile and is compared with it). What needs a sum over a row comes from `prepare` as well:
compilers order such sums as the program around them suggests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

# What is taken of the base, a number, 0 where there is none, and of each source, `[K]`: both float32. Of sources that
# are relative to a base it is what is taken of their task vectors.
Coefficients = tuple[Array | float, Array]
Scope = Literal["element", "row", "tensor"]
# What becomes of a tensor that some of the models lack: an error; a copy where only one model has it; a copy where only
# the base has it; a merge of those that have it, where they are enough, else a copy of the base's, and no tensor where
# the base lacks it.
Lacking = Literal["error", "copy_single", "copy_base", "merge_rest"]
Stats = dict[str, Any]
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator, declared once: validation, help, search space and documentation read it.

    default: value where a recipe says nothing; None: the recipe must say it.
    low, high: the values allowed, inclusive; None: unbounded.
    search: bounds proposed to a search, or None where it is not meant to be searched.
    per_source: a value for every source (`[K]`), or one for the whole merge.
    gridded: `prepare` needs the values in advance; a search rounds them to a grid. A flag that decides what is
        prepared is gridded too; it is never searched.
    fixed: gridded, and kept at one value by a search: what is prepared for each is as large as the tensor.
    cells: a search divides the bounds of a gridded parameter into at least so many steps; no step is longer than
        1 / (8 cells).
    """

    name: str
    meaning: str
    default: float | bool | None
    kind: Literal["number", "flag", "integer"] = "number"
    low: float | None = None
    high: float | None = None
    search: tuple[float, float] | None = None
    per_source: bool = False
    gridded: bool = False
    fixed: bool = False
    cells: int = 16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tile:
    """Aligned pieces of the sources: any number of rows, each whole along the last axis.

    base: float32, or None where the operator has no base.
    sources: K arrays, float32, of the base's shape, in the recipe's order.
    rows: uint32 `[*shape[:-1]]`, which row of the tensor (leading axes flattened) each row of the tile is.
    fields: what `prepare` computed for every element, or for every row with one column, cut like the sources; a
        tuple of arrays a name, one a source or a single one.
    """

    base: Array | None
    sources: tuple[Array, ...]
    rows: Array
    fields: dict[str, tuple[Array, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """Whole tensors on the host, in the dtype of their checkpoint."""

    base: np.ndarray | None
    experts: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Request:
    """What `prepare` is asked for.

    tensor: the tensor's name in the checkpoint (masks depend on it).
    seed: seed of random masks.
    grid: for each gridded parameter, for each source, the float64 values that will be asked, ascending.
    masks: recorded Bernoulli draws to use in place of our own, one uint8 or bool array a source.
    """

    tensor: str
    seed: int
    grid: Mapping[str, tuple[np.ndarray, ...]]
    masks: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True)
class Prepared:
    """stats: small float32 or uint32 arrays by name, stackable over layers. fields: see `Tile.fields`."""

    stats: Stats = field(default_factory=dict)
    fields: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)


def nothing(sources: Sources, request: Request) -> Prepared:
    """The `prepare` of operators that need nothing in advance."""
    return Prepared()


@dataclass(frozen=True)
class Operator:
    """A merge operator.

    min_sources, max_sources: how many sources besides the base (None: any number).
    needs_base: whether there must be a base model; `apply` then gets it as `tile.base`.
    optional_base: a declared base is used as one; without it `tile.base` is None.
    base_is_source: the declared base is one of the sources that are merged, with parameters of its own.
    lacking: what becomes of a tensor that some of the models lack.
    scope: the smallest tile on which `apply` is valid.
    check: complains about values that no single parameter's bounds rule out. It gets the concrete parameters
        of one merge (per source a list of K numbers, else a number; flags as bools) and returns what is wrong
        and the remedy, or None. In a search it is asked for every combination of gridded values.
    field_bytes: what the fields of `prepare` take in memory for each element of each source, rows up to 65536 long.
    shared_field_bytes: the same for each element once, whatever the number of sources.
    coefficients: where a merge is a linear combination of whole tensors, what is taken of each: `(stats, params, count,
        based)` to `Coefficients`, with as many numbers as there are sources, `count`; based: there is a base. It is
        `apply` but for rounding. None where a merge is none.
    rows_apart: the flag and its value with which each row has coefficients of its own, and `coefficients` do not hold.
    undefined: for which tensors `apply` gives NaN, and the remedy.
    paper: where it comes from.
    """

    name: str
    summary: str
    apply: Callable[[Tile, Stats, Params], Array]
    parameters: tuple[Parameter, ...]
    prepare: Callable[[Sources, Request], Prepared] = nothing
    needs_base: bool = False
    optional_base: bool = False
    base_is_source: bool = False
    min_sources: int = 1
    max_sources: int | None = None
    lacking: Lacking = "error"
    scope: Scope = "element"
    check: Callable[[Mapping[str, Any]], str | None] = lambda params: None
    coefficients: Callable[[Stats, Params, int, bool], Coefficients] | None = None
    rows_apart: tuple[str, bool] | None = None
    field_bytes: int = 0
    shared_field_bytes: int = 0
    undefined: str = ""
    paper: str = ""

    @property
    def takes_base(self) -> bool:
        """Whether a declared base is what the sources are relative to, not a source."""
        return self.needs_base or self.optional_base

    def element_bytes(self, sources: int) -> int:
        """Memory of what `prepare` keeps for each element of a tensor."""
        return self.field_bytes * sources + self.shared_field_bytes

    def parameter(self, name: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)
