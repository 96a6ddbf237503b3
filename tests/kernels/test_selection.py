from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_world import lowered

from jaxmerge.kernels.selection import Places, pallas_gpu, pallas_tpu, radix, smallest_kept

RNG = np.random.default_rng(0)
CASES = {
    "normal": np.abs(RNG.standard_normal(200_001, np.float32)),
    "many scales": np.exp(RNG.uniform(-80, 80, 70_000)).astype(np.float32),
    "equal": np.full(1000, 0.3, np.float32),
    "zeros": np.zeros(77, np.float32),
    "few values": RNG.integers(0, 4, 5000).astype(np.float32),
    "matrix": np.abs(RNG.standard_normal((33, 65), np.float32)),
    "one": np.array([2.5], np.float32),
    "subnormal": np.arange(300, dtype=np.uint32).view(np.float32),
    "largest": np.array([0, np.finfo(np.float32).max, 1], np.float32),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("many", [False, True])
def test_smallest_kept_is_the_order_statistic(case, many):
    x = CASES[case]
    counts = np.linspace(1, x.size, 64 if many else 1).astype(int)
    np.testing.assert_array_equal(smallest_kept(x, counts), np.sort(x.ravel())[::-1][counts - 1])


# Of one size, so that each is compiled once.
SMALL = {name: np.resize(CASES[name], 4999) for name in CASES}
TRACED = {
    "radix": jax.jit(radix.smallest_kept),
    "tpu": jax.jit(partial(pallas_tpu.smallest_kept, rows=16, interpret=True)),
    "gpu": jax.jit(partial(pallas_gpu.smallest_kept, interpret=True)),
}


@pytest.mark.parametrize("implementation", TRACED)
@pytest.mark.parametrize("case", SMALL)
def test_traced_selection_is_that_of_the_reference(implementation, case):
    x, counts = SMALL[case], np.array([1, 2, 1500, 4998, 4999], np.int32)
    np.testing.assert_array_equal(TRACED[implementation](x, counts), smallest_kept(x, counts))


@pytest.mark.parametrize("platform, kernel", [("tpu", pallas_tpu), ("cuda", pallas_gpu)])
def test_kernels_lower(platform, kernel):
    text = lowered(kernel.smallest_kept, platform, jnp.ones((256, 1024)), jnp.ones((16,), jnp.int32))
    assert ("tpu_custom_call" if platform == "tpu" else "triton") in text


@pytest.mark.parametrize("name", ["pallas_tpu", "pallas_gpu"])
def test_more_counts_than_a_kernel_takes_go_to_the_reference(name):
    counts = np.arange(1, 66)
    x = CASES["few values"]
    np.testing.assert_array_equal(smallest_kept(x, counts, implementation=name), smallest_kept(x, counts))


@pytest.mark.parametrize("bits", [32, 24])
@pytest.mark.parametrize("count", [1, 2, 64])
def test_places_are_those_of_searchsorted(bits, count):
    boundaries = np.sort(RNG.integers(0, 2**bits, count, np.uint64)).astype(np.uint32)
    if count > 2:
        boundaries[5] = boundaries[4]
    words = np.concatenate([RNG.integers(0, 2**bits, 50_000, np.uint64), boundaries, boundaries - 1]).astype(np.uint32)
    words = words[words < 2**bits]
    np.testing.assert_array_equal(Places(boundaries, bits)(words), np.searchsorted(boundaries, words, side="right"))
