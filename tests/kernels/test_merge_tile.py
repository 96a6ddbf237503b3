"""The fused merge of a tile gives the bits of the operator's `apply`, by every implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_world import lowered, world

from jaxmerge.kernels.merge_tile import Values, merge_tile, pallas_gpu, pallas_tpu, reference
from jaxmerge.operators.arithmetic import widen
from jaxmerge.operators.fused import FORMS
from jaxmerge.operators.interface import Tile

SHAPE = (2, 24, 160)  # blocks of 32 x 128 stand over both edges
ROWS = jnp.asarray(np.random.default_rng(1).integers(0, 2**32, SHAPE[:-1], np.uint64).astype(np.uint32))
KERNELS = {
    "tpu": (pallas_tpu.merge_tile, {"block": (32, 128), "interpret": True}),
    "gpu": (pallas_gpu.merge_tile, {"interpret": True}),
}
# XLA compiles each kernel anew; the arithmetic of an element is the reference's, which all operators are held to.
CASES = [("reference", name, dtype) for name in FORMS for dtype in ("float32", "bits")] + [
    ("tpu", "ties", "bfloat16"),
    ("tpu", "dare_ties", "bits"),
    ("tpu", "linear", "float32"),
    ("gpu", "ties", "float32"),
    ("gpu", "dare_linear", "bfloat16"),
]


@pytest.mark.parametrize("implementation, name, dtype", CASES)
def test_bits_are_those_of_the_operator(implementation, name, dtype):
    of = world(name, SHAPE, dtype)
    merge, options = KERNELS.get(implementation, (reference.merge_tile, {}))

    @jax.jit
    def both(base, sources, values):
        wide = None if base is None else widen(base)
        by_operator = of.operator.apply(Tile(wide, tuple(map(widen, sources)), ROWS), of.stats, of.merges[0])
        return by_operator, merge(base, sources, values, of.form, keys=of.keys, rows=ROWS, **options)

    values = jax.tree.map(lambda value: value[0], of.values)
    expected, merged = both(of.base, of.sources, values)
    assert merged.shape == SHAPE and merged.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(merged).view(np.uint32), np.asarray(expected).view(np.uint32))
    # Something was merged.
    assert np.abs(expected - widen(of.sources[0])).max() > 0.01


@pytest.mark.parametrize("platform, module", [("tpu", pallas_tpu), ("cuda", pallas_gpu)])
@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties"])
def test_lowers(platform, module, name):
    of = world(name, (512, 1024), "bits")
    values = jax.tree.map(lambda value: value[0], of.values)

    def merge(base, sources, values):
        return module.merge_tile(base, sources, values, of.form, keys=of.keys, dtype=jnp.bfloat16)

    text = lowered(merge, platform, of.base, of.sources, values)
    assert ("tpu_custom_call" if platform == "tpu" else "triton") in text


def test_rows_follow_one_another_where_nothing_is_said():
    of = world("dare_linear", SHAPE, "float32")
    values = jax.tree.map(lambda value: value[0], of.values)
    rows = jnp.arange(48, dtype=jnp.uint32).reshape(2, 24)

    @jax.jit
    def merges(base, sources, values):
        return [merge_tile(base, sources, values, of.form, keys=of.keys, rows=r) for r in (None, rows, ROWS)]

    merged = merges(of.base, of.sources, values)
    np.testing.assert_array_equal(merged[0], merged[1])
    assert (merged[0] != merged[2]).any()


@pytest.mark.parametrize("kernel", [pallas_tpu, pallas_gpu])
@pytest.mark.parametrize(
    "shape, dtype, sources",
    [((64,), "float32", 3), ((0, 64), "float32", 3), ((8, 64), "float16", 3), ((8, 64), "float32", 17)],
)
def test_what_a_kernel_does_not_take_goes_to_the_reference(kernel, shape, dtype, sources, caplog):
    arrays, values = [np.ones(shape, dtype)] * sources, Values(np.ones(sources, np.float32), normalize=1.0)
    with pytest.raises(NotImplementedError):
        kernel.merge_tile(arrays[0], arrays, values, FORMS["task_arithmetic"])
    name = kernel.__name__.split(".")[-1]
    with caplog.at_level("INFO", "jaxmerge"):
        merged = jax.eval_shape(
            lambda *arrays: merge_tile(arrays[0], arrays, values, FORMS["task_arithmetic"], implementation=name),
            *arrays,
        )
    assert merged.shape == shape and merged.dtype == jnp.float32
    assert "the reference runs" in caplog.text


def test_a_narrow_tile_is_not_for_a_gpu_kernel():
    arrays = [jnp.ones((8, 33))] * 2
    with pytest.raises(NotImplementedError, match="33 columns"):
        pallas_gpu.merge_tile(arrays[0], arrays, Values(jnp.ones(2)), FORMS["task_arithmetic"])


def test_an_unknown_implementation_is_named():
    arrays = [jnp.ones((8, 64))] * 2
    with pytest.raises(ValueError, match=r"'cuda' is unknown.*pallas_gpu"):
        merge_tile(arrays[0], arrays, Values(jnp.ones(2)), FORMS["linear"], implementation="cuda")
