"""What is looked up on a grid has the gradient of the secant over the neighbouring grid points, and the same merge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmerge.operators.interface import Request, Sources, Tile
from jaxmerge.operators.registry import operator
from jaxmerge.operators.secant import Steps, with_secants

RNG = np.random.default_rng(2)
BASE = RNG.normal(0, 1, (6, 16)).astype(np.float32)
EXPERTS = tuple(BASE + RNG.normal(0, 0.3, BASE.shape).astype(np.float32) for _ in range(2))
GRID = np.arange(2, 13) / 16


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("ties", {"density": [0.5, 0.125]}),
        ("dare_linear", {"density": [0.25, 0.75]}),
        ("della", {"density": [0.5, 0.5], "epsilon": [0.125, 0.125]}),
        ("sce", {"select_topk": 0.5}),
    ],
)
def test_the_gradient_of_a_gridded_parameter_is_its_secant(name: str, asked: dict) -> None:
    chosen = operator(name)
    grids = {"density": GRID, "select_topk": GRID, "epsilon": np.array([1, 2, 3]) / 16}
    fixed = {p.name: float(p.default or 0.0) for p in chosen.parameters} | {"weight": 0.75}
    params = {}
    for p in chosen.parameters:
        value = asked.get(p.name, fixed[p.name])
        params[p.name] = jnp.asarray(np.broadcast_to(value, (2,)) if p.per_source else value, jnp.float32)
    asking = {p.name: (grids.get(p.name, np.array([fixed[p.name]])),) * 2 for p in chosen.parameters if p.gridded}
    prepared = chosen.prepare(Sources(BASE, EXPERTS), Request("layer.weight", 0, asking))
    tile = Tile(BASE, EXPERTS, jnp.arange(6, dtype=jnp.uint32), prepared.fields)
    steps = {n: Steps(n, float(grids[n][0]), float(grids[n][-1]), float(grids[n][1] - grids[n][0])) for n in asked}
    along = jnp.asarray(RNG.normal(0, 1, BASE.shape), jnp.float32)
    smooth = with_secants(chosen, tuple(steps.values()))
    merge = jax.jit(chosen.apply)
    merged = merge(tile, prepared.stats, params)
    np.testing.assert_array_equal(jax.jit(smooth.apply)(tile, prepared.stats, params), merged)

    gradient = jax.jit(jax.grad(lambda params: (along * smooth.apply(tile, prepared.stats, params)).sum()))(params)
    plain = jax.jit(jax.grad(lambda params: (along * chosen.apply(tile, prepared.stats, params)).sum()))(params)
    for p in chosen.parameters:
        if p.name not in asked:
            np.testing.assert_allclose(gradient[p.name], plain[p.name], rtol=1e-5, atol=1e-6)
            continue
        value, grid = params[p.name], steps[p.name]
        assert not np.any(plain[p.name])
        for source in range(value.size):
            ends, here = [], float(value.ravel()[source])
            for end in (min(here + grid.step, grid.high), max(here - grid.step, grid.low)):
                moved = value.ravel().at[source].set(end).reshape(value.shape)
                ends.append((float(end), merge(tile, prepared.stats, params | {p.name: moved})))
            (up, above), (down, below) = ends
            np.testing.assert_allclose(
                gradient[p.name].ravel()[source], (along * (above - below)).sum() / (up - down), rtol=1e-4, atol=1e-4
            )
    assert with_secants(chosen, tuple(steps.values())) is smooth
