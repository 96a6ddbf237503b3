import numpy as np
import pytest

from jaxmerge.kernels.exact_sum import nested_sums

RNG = np.random.default_rng(0)
X = np.abs(RNG.standard_normal(100_000, np.float32)) * np.float32(0.003)
SETS = RNG.integers(0, 6, X.size)


def sums(x: np.ndarray, sets: np.ndarray, step: int = 1 << 16) -> np.ndarray:
    pieces = ((x[i : i + step], sets[i : i + step]) for i in range(0, x.size, step))
    return nested_sums(pieces, float(x.max(initial=0)), 5)


@pytest.mark.parametrize("step", [999, 65_536, 1 << 20])
def test_order_and_pieces_do_not_matter(step):
    order = RNG.permutation(X.size)
    np.testing.assert_array_equal(sums(X, SETS), sums(X[order], SETS[order], step))


def test_sets_are_nested_and_the_last_sum_is_of_all():
    expected = [X[g >= SETS].astype(np.float64).sum() for g in range(6)]
    np.testing.assert_allclose(sums(X, SETS), expected, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-38, 1e-45, 1.0, 1e30])
def test_any_scale(scale):
    x = np.array([1, 2, 3, 0.5], np.float32) * np.float32(scale)
    np.testing.assert_allclose(sums(x, np.zeros(4, int))[0], x.astype(np.float64).sum(), rtol=1e-9)


def test_nothing_sums_to_zero():
    assert not sums(np.zeros(0, np.float32), np.zeros(0, int)).any()
    assert not sums(np.zeros(9, np.float32), np.zeros(9, int)).any()


def test_more_elements_than_float64_could_sum_at_once():
    x = np.full((1 << 22) + 5, 1 - 2.0**-24, np.float32)
    assert sums(x, np.zeros(x.size, int), x.size)[0] == x.size * float(x[0])
