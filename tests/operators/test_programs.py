"""What is scored is what is exported: an operator gives the same bits in every program it is compiled into.

Compilers fuse multiplications with additions, turn divisions into products and fold constants, each as the code around
invites them to; `operators.arithmetic` says how that is prevented. These tests hold it.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from jaxmerge.operators import OPERATORS, merge_tensor
from jaxmerge.operators.arithmetic import storable, widen
from jaxmerge.operators.interface import Request, Sources, Tile
from jaxmerge.operators.whole_tensor import complete

LAYERS, OUT, IN = 2, 37, 53
CHOSEN = {
    "weight": [0.31, 0.77, -0.41],
    "density": [0.3, 0.55, 0.8],
    "gamma": [0.1, 0.05, 0.3],
    "lambda": 0.9,
    "t": 0.37,
    "scale": [0.7],
    "select_topk": 0.4,
    "r": 0.3,
    "alpha": 2.0,
}
FLAGS = {"normalize": True, "rescale": True}
OF_OPERATOR = {
    "della": {"epsilon": [0.1, 0.15, 0.05]},
    "della_linear": {"epsilon": [0.1, 0.15, 0.05]},
    "nearswap": {"t": 0.05},
    "ram": {"epsilon": 0.1},
    "ramplus_tl": {"epsilon": 0.1},
    "cabs": {"n": 3, "m": 8},
    "emr": {"task": 2},
}
# Other forms of an operator: its name, what is chosen, and whether an optional base is there.
FORMS = {
    "breadcrumbs, as published": ("breadcrumbs", {"published": True}, True),
    "dare_linear, as published": ("dare_linear", {"published": True}, True),
    "della, as published": ("della", {"published": True}, True),
    "model_stock, by rows": ("model_stock", {"filter_wise": True}, True),
    "multislerp, from a base": ("multislerp", {}, True),
    "nuslerp, from a base": ("nuslerp", {}, True),
    "nuslerp, last axis": ("nuslerp", {"nuslerp_flatten": False}, False),
    "nuslerp, first axis": ("nuslerp", {"nuslerp_flatten": False, "nuslerp_row_wise": True}, False),
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Stacked:
    """A layer-stacked matrix and vector of a base and its fine-tunes, with the merge of every layer as a whole."""

    def __init__(self, name: str, dtype: np.dtype, form: dict | None = None, has_base: bool = False):
        self.operator = OPERATORS[name]
        self.count = self.operator.max_sources or 3
        wanted = CHOSEN | FLAGS | OF_OPERATOR.get(name, {}) | (form or {})
        chosen = {
            p.name: np.resize(value, self.count) if p.per_source else value
            for p in self.operator.parameters
            if (value := wanted.get(p.name)) is not None
        }
        values = complete(self.operator, chosen, self.count)
        self.params = {key: jnp.asarray(value, jnp.float32) for key, value in values.items()}
        grid = {p.name: tuple(values[p.name].reshape(-1, 1)) for p in self.operator.parameters if p.gridded}
        rng = np.random.default_rng(0)
        self.bank, self.stats, self.fields, self.merged = {}, {}, {}, {}
        for path, shape in {"matrix": (LAYERS, OUT, IN), "vector": (LAYERS, OUT)}.items():
            base = rng.normal(size=shape)
            experts = [(base + rng.normal(size=shape) * 0.1).astype(dtype) for _ in range(self.count)]
            base = base.astype(dtype)
            needed = base if self.operator.needs_base or (self.operator.optional_base and has_base) else None
            merged, prepared = [], []
            for layer in range(LAYERS):
                whole = None if needed is None else needed[layer]
                of_layer, tensor = tuple(expert[layer] for expert in experts), f"{path}.{layer}"
                merged.append(merge_tensor(self.operator, whole, of_layer, chosen, tensor=tensor, seed=3))
                prepared.append(self.operator.prepare(Sources(whole, of_layer), Request(tensor, 3, grid)))
            self.merged[path] = np.stack(merged)
            self.stats[path] = jax.tree.map(lambda *x: jnp.stack(x), *[p.stats for p in prepared])
            self.fields[path] = jax.tree.map(lambda *x: jnp.stack(x), *[p.fields for p in prepared])
            stored = None if needed is None else jnp.asarray(storable(needed))
            self.bank[path] = (stored, tuple(jnp.asarray(storable(expert)) for expert in experts))

    def apply(self, path, layer, params, rows, pick=lambda x: x):
        """The merge of (rows of) one layer, inside whatever program calls it."""
        base, experts = self.bank[path]

        def piece(array):
            return pick(lax.dynamic_index_in_dim(array, layer, keepdims=False))

        wide = None if base is None else widen(piece(base))
        tile = Tile(wide, tuple(widen(piece(x)) for x in experts), rows, jax.tree.map(piece, self.fields[path]))
        return self.operator.apply(tile, jax.tree.map(lambda x: x[layer], self.stats[path]), params)

    def layer(self, layer, params):
        return {
            "matrix": self.apply("matrix", layer, params, jnp.arange(OUT, dtype=jnp.uint32)),
            "vector": self.apply("vector", layer, params, jnp.uint32(0)),
        }

    def holds(self, merged):
        for path, expected in self.merged.items():
            np.testing.assert_array_equal(np.asarray(merged[path]), expected, err_msg=path)


def forward(stacked: Stacked, params):
    def block(x, layer):
        weights = stacked.layer(layer, params)
        y = jnp.tanh(x @ weights["matrix"].T + weights["vector"]) * weights["vector"]
        return x + jnp.pad(y, ((0, 0), (0, IN - OUT))), weights

    return lax.scan(block, jnp.ones((4, IN)), jnp.arange(LAYERS))[1]


def loss(stacked: Stacked, params):
    merged = forward(stacked, params)
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(merged)), merged


def two_candidates(params):
    """Two recipes with the same grid, the second of which is the one that is looked at."""
    free = ("weight", "lambda", "t", "scale", "r", "alpha")
    of_both = {key: jnp.stack([value * 0.5 if key in free else value, value]) for key, value in params.items()}
    return of_both | {"candidate": jnp.arange(2)}  # an operator may have no parameters


PROGRAMS = {
    "scan": lambda s, p: lax.scan(lambda c, i: (c, s.layer(i, p)), 0, jnp.arange(LAYERS))[1],
    "inside a forward pass": forward,
    "vmap over layers": lambda s, p: jax.vmap(lambda i: s.layer(i, p))(jnp.arange(LAYERS)),
    "unrolled": lambda s, p: jax.tree.map(lambda *x: jnp.stack(x), *[s.layer(i, p) for i in range(LAYERS)]),
    "map over candidates": lambda s, p: jax.tree.map(
        lambda x: x[1], lax.map(lambda q: lax.map(lambda i: s.layer(i, q), jnp.arange(LAYERS)), two_candidates(p))
    ),
    "vmap over candidates": lambda s, p: jax.tree.map(
        lambda x: x[1], jax.vmap(lambda q: forward(s, q))(two_candidates(p))
    ),
    "value and gradient": lambda s, p: jax.value_and_grad(lambda q: loss(s, q), has_aux=True)(p)[0][1],
}


ALIKE = ("iso_cts", "wudi")  # they apply what iso_c applies
DISTINCT = [f"{name}-float32" for name in OPERATORS if name not in ALIKE]


@pytest.fixture(scope="module", params=[*DISTINCT, "linear-bfloat16", "ties-bfloat16"])
def stacked(request):
    name, dtype = request.param.split("-")
    return Stacked(name, BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype))


@pytest.fixture(scope="module", params=FORMS)
def other_form(request):
    name, form, has_base = FORMS[request.param]
    return Stacked(name, np.dtype(np.float32), form, has_base)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_gives_the_bits_of_the_whole_tensor(stacked, program):
    stacked.holds(jax.jit(lambda params: PROGRAMS[program](stacked, params))(stacked.params))


def test_parameters_known_when_compiling_change_nothing(stacked):
    stacked.holds(jax.jit(lambda: forward(stacked, stacked.params))())


@pytest.mark.parametrize("program", ["inside a forward pass", "vmap over candidates"])
def test_so_it_does_for_other_forms(other_form, program):
    other_form.holds(jax.jit(lambda params: PROGRAMS[program](other_form, params))(other_form.params))


def test_tiles_and_gathered_rows_give_the_same_bits(stacked):
    rows_hold(stacked)


def test_so_they_do_for_other_forms(other_form):
    rows_hold(other_form)


def rows_hold(stacked):
    for ids in (np.arange(5, 12), np.array([[36, 0, 0], [5, 17, 36]]), np.array(11)):
        rows = jnp.asarray(ids, jnp.uint32)
        piece = jax.jit(lambda p, r: stacked.apply("matrix", 1, p, r, lambda x: x[r]))(stacked.params, rows)
        np.testing.assert_array_equal(np.asarray(piece), stacked.merged["matrix"][1][ids])
