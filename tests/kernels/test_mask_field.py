"""The statistics of the mask field, and that NumPy and JAX agree on every bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_world import lowered

from jaxmerge.kernels.mask_field import draw, field, keep, keep_below, mask_key, pallas_gpu, pallas_tpu

KEY = mask_key(7, 0, "layers.0.weight")


def words(rows: int, columns: int, key: np.ndarray = KEY) -> np.ndarray:
    return field(key, np.arange(rows, dtype=np.uint32), columns)


def test_numpy_and_jax_give_the_same_bits():
    rows = np.array([[0, 5], [2**31, 2**32 - 1]], np.uint32)
    compiled = jax.jit(field, static_argnums=2)(jnp.asarray(KEY), jnp.asarray(rows), 300)
    assert compiled.dtype == jnp.uint32 and compiled.shape == (2, 2, 300)
    np.testing.assert_array_equal(np.asarray(compiled), field(KEY, rows, 300))


@pytest.mark.parametrize("kernel, options", [(pallas_tpu, {"block": (8, 128)}), (pallas_gpu, {})])
def test_kernels_give_the_same_bits(kernel, options):
    rows = np.random.default_rng(0).integers(0, 2**32, (2, 10), np.uint64).astype(np.uint32)
    found = kernel.field(KEY, rows, 160, interpret=True, **options)
    assert found.dtype == jnp.uint32
    np.testing.assert_array_equal(found, field(KEY, rows, 160))


@pytest.mark.parametrize("platform, kernel", [("tpu", pallas_tpu), ("cuda", pallas_gpu)])
def test_kernels_lower(platform, kernel):
    text = lowered(lambda key, rows: kernel.field(key, rows, 1024), platform, KEY, np.arange(512, dtype=np.uint32))
    assert ("tpu_custom_call" if platform == "tpu" else "triton") in text


@pytest.mark.parametrize("name", ["pallas_tpu", "pallas_gpu"])
def test_a_field_that_kernels_do_not_take_comes_from_the_reference(name):
    np.testing.assert_array_equal(field(KEY, np.uint32(3), 50, implementation=name), words(4, 50)[3])


def test_one_row_has_no_row_axis():
    np.testing.assert_array_equal(field(KEY, np.uint32(0), 50), words(1, 50)[0])


def test_rows_and_columns_address_the_field():
    whole = words(100, 64)
    np.testing.assert_array_equal(field(KEY, np.array([70, 3, 3], np.uint32), 64), whole[[70, 3, 3]])
    np.testing.assert_array_equal(words(100, 20), whole[:, :20])


def test_keys_depend_on_seed_place_and_tensor_only():
    keys = {tuple(mask_key(s, p, t)) for s in (0, 1, 11) for p in (0, 1, 11) for t in ("a", "b", "1a")}
    assert len(keys) == 27
    assert mask_key(3, 1, "x").tolist() == [2959042495, 4113138788]  # a key never changes


@pytest.mark.parametrize("shape", [(1024, 1024), (1, 1 << 20), (1 << 20, 1), (3, 350_000)])
def test_bits_and_bytes_are_even(shape):
    x = words(*shape)
    n = x.size
    shares = np.array([((x >> bit) & 1).mean() for bit in range(32)])
    assert np.abs(shares - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    for byte in range(4):
        counts = np.bincount(((x >> (8 * byte)) & 255).ravel(), minlength=256)
        chi_square = ((counts - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)
    assert abs((x / 2**32).var() - 1 / 12) < 1e-3


def test_neighbours_are_independent():
    x = words(1024, 1024) / 2**32 - 0.5
    bound = 5 / np.sqrt(x.size) / 12
    other = words(1024, 1024, mask_key(8, 0, "layers.0.weight")) / 2**32 - 0.5
    for lagged in (x[1:] * x[:-1], x[:, 1:] * x[:, :-1], x[:, 32:] * x[:, :-32], x * other, x[:700] * x[324:]):
        assert abs(lagged.mean()) < bound * np.sqrt(x.size / lagged.size)
    keeps = x < 0
    assert abs(keeps.mean(0).std() - 0.5 / 32) < 0.002 and abs(keeps.mean(1).std() - 0.5 / 32) < 0.002


def test_no_two_rows_hold_the_same_words():
    assert len({row.tobytes() for row in np.sort(words(5000, 16), axis=1)}) == 5000


@pytest.mark.parametrize("which", ["first key", "second key", "row", "column"])
def test_avalanche(which):
    rows, columns = np.arange(512, dtype=np.uint32), 64
    x = field(KEY, rows, columns)
    for bit in range(0, 32 if which != "column" else 6, 3):
        flip = np.uint32(1 << bit)
        if which == "row":
            y = field(KEY, rows ^ flip, columns)
        elif which == "column":
            y = x[:, np.arange(columns) ^ int(flip)]
        else:
            y = field(KEY ^ np.array([flip, 0] if which == "first key" else [0, flip], np.uint32), rows, columns)
        flipped = np.unpackbits((x ^ y).view(np.uint8)).reshape(-1, 32).mean(axis=0)
        assert flipped.min() > 0.47 and flipped.max() < 0.53


def test_densities_are_met_and_nested():
    x, previous = words(512, 512), np.zeros((512, 512), bool)
    for density in (0.0, 0.01, 0.1, 0.25, 0.5, 0.77, 1.0):
        kept = keep(x, keep_below(density))
        assert not (previous & ~kept).any()
        assert abs(kept.mean() - density) <= 5 * np.sqrt(density * (1 - density) / x.size)
        np.testing.assert_array_equal(kept, draw(x) < np.float64(density) * 2**24)
        previous = kept
    assert previous.all()
