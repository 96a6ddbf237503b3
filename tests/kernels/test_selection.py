import numpy as np
import pytest

from jaxmerge.kernels.selection import Places, smallest_kept

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


@pytest.mark.parametrize("bits", [32, 24])
@pytest.mark.parametrize("count", [1, 2, 64])
def test_places_are_those_of_searchsorted(bits, count):
    boundaries = np.sort(RNG.integers(0, 2**bits, count, np.uint64)).astype(np.uint32)
    if count > 2:
        boundaries[5] = boundaries[4]
    words = np.concatenate([RNG.integers(0, 2**bits, 50_000, np.uint64), boundaries, boundaries - 1]).astype(np.uint32)
    words = words[words < 2**bits]
    np.testing.assert_array_equal(Places(boundaries, bits)(words), np.searchsorted(boundaries, words, side="right"))
