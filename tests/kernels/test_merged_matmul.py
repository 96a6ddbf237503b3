"""Tokens times a merged matrix: what the operator's merge, written out, gives for every candidate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_world import lowered, world

from jaxmerge.kernels.merged_matmul import merged_matmul, pallas_gpu, pallas_tpu, reference
from jaxmerge.operators.arithmetic import widen
from jaxmerge.operators.interface import Tile

CANDIDATES, TOKENS, OUT, IN = 2, 5, 48, 256
ROWS = jnp.asarray(np.random.default_rng(1).permutation(1000)[:OUT].astype(np.uint32))
IMPLEMENTATIONS = {
    "reference": (reference.merged_matmul, {}),
    "tpu": (pallas_tpu.merged_matmul, {"block": (128, 128), "interpret": True}),
    "gpu": (pallas_gpu.merged_matmul, {"interpret": True}),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name, dtype", [("ties", "float32"), ("dare_ties", "bfloat16")])
def test_equals_the_product_with_each_merge(implementation, name, dtype):
    of = world(name, (OUT, IN), dtype, CANDIDATES)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(CANDIDATES, TOKENS, IN)), dtype)
    multiply, options = IMPLEMENTATIONS[implementation]

    @jax.jit
    def product(x, base, sources, values):
        return multiply(x, base, sources, values, of.form, keys=of.keys, rows=ROWS, **options)

    y = product(x, of.base, of.sources, of.values)
    assert y.shape == (CANDIDATES, TOKENS, OUT) and y.dtype == x.dtype
    tile = Tile(widen(of.base), tuple(map(widen, of.sources)), ROWS)
    for p, merge in enumerate(of.merges):
        merged = np.asarray(jax.jit(of.operator.apply)(tile, of.stats, merge).astype(dtype), np.float64)
        expected = np.asarray(x[p], np.float64) @ merged.T
        # Float32 sums of 256 products; and, in bfloat16, the rounding of the result.
        bound = np.abs(np.asarray(x[p], np.float64)) @ np.abs(merged).T * 2e-6 + np.abs(expected) * (
            2.0**-8 if dtype == "bfloat16" else 0
        )
        assert (np.abs(np.asarray(y[p], np.float64) - expected) <= bound).all()


@pytest.mark.parametrize("platform, module", [("tpu", pallas_tpu), ("cuda", pallas_gpu)])
@pytest.mark.parametrize("name, dtype", [("task_arithmetic", "float32"), ("dare_ties", "bits")])
def test_lowers(platform, module, name, dtype):
    of = world(name, (512, 1024), dtype, 4)
    x = jnp.ones((4, 100, 1024), "float32" if dtype == "float32" else "bfloat16")
    text = lowered(
        lambda x, base, sources, values: module.merged_matmul(x, base, sources, values, of.form, keys=of.keys),
        platform,
        x,
        of.base,
        of.sources,
        of.values,
    )
    assert ("tpu_custom_call" if platform == "tpu" else "triton") in text


@pytest.mark.parametrize(
    "implementation, width, of_tokens, reason",
    [
        ("pallas_tpu", 1111, "float32", "no multiple of 128"),
        ("pallas_gpu", 24, "float32", "no multiples of 16"),
        ("pallas_tpu", 64, "float16", "tokens in float16"),
        ("pallas_gpu", 64, "float16", "tokens in float16"),
    ],
)
def test_what_a_kernel_does_not_take_goes_to_the_reference(implementation, width, of_tokens, reason, caplog):
    of = world("task_arithmetic", (16, width), "float32")
    x = jnp.ones((1, 2, width), of_tokens)
    with caplog.at_level("INFO", "jaxmerge"):
        y = jax.eval_shape(
            lambda x, values: merged_matmul(x, of.base, of.sources, values, of.form, implementation=implementation),
            x,
            of.values,
        )
    assert reason in caplog.text and y.shape == (1, 2, 16)


def test_blocks_shrink_to_what_vmem_holds():
    group = pallas_tpu._group
    assert group(8, 128, 256, 512, 8, 2) == 8 and group(64, 512, 256, 512, 8, 2) == 2
    assert group(6, 64, 256, 512, 8, 2) == 6 and group(7, 512, 256, 512, 8, 2) == 1
    with pytest.raises(NotImplementedError, match="no room"):
        group(1, 512, 256, 512, 68, 4)
