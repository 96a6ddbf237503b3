"""What must hold for any tensors, whatever the reference does."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxmerge.errors import CheckpointError
from jaxmerge.operators import OPERATORS, merge_tensor
from jaxmerge.operators.arithmetic import sine
from jaxmerge.operators.interface import Request, Sources, Tile
from jaxmerge.operators.whole_tensor import complete

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(24, 40)).astype(np.float32)
EXPERTS = [BASE + RNG.normal(size=BASE.shape).astype(np.float32) * np.float32(0.1) for _ in range(3)]
WEIGHTS = [0.5, 0.3, 0.4]
RANDOM = ["dare_linear", "dare_ties", "della_linear", "della"]
TRIMMING = ["ties", *RANDOM, "breadcrumbs", "breadcrumbs_ties"]
MATRICES = ["tsv", "iso_c", "iso_cts", "wudi"]
VECTOR_OPERATORS = ["task_arithmetic", *TRIMMING]


def merge(name, base=BASE, experts=EXPERTS, seed=0, tensor="w", masks=None, **params):
    operator = OPERATORS[name]
    params.setdefault("weight", WEIGHTS[: len(experts)])
    params = {p.name: params[p.name] for p in operator.parameters if p.name in params}
    base = base if operator.needs_base else None
    return merge_tensor(operator, base, experts, params, tensor=tensor, seed=seed, masks=masks)


def same_bits(one, two):
    np.testing.assert_array_equal(one.view(np.uint32), two.view(np.uint32))


@pytest.mark.parametrize("name", VECTOR_OPERATORS)
def test_nothing_added_is_the_base_to_the_bit(name):
    base = BASE.copy()
    base[0, :4] = [-0.0, 0.0, 1e-39, -1e-45]
    for changed in ({"lambda": 0.0}, {"weight": [0.0] * 3}, {"density": 0.0}):
        if "density" in changed and name not in TRIMMING:
            continue
        same_bits(merge(name, base, **changed), base)
    same_bits(merge(name, base, [base] * 3, density=0.5), base)


@pytest.mark.parametrize("name", [name for name in OPERATORS if OPERATORS[name].needs_base])
def test_models_that_are_the_base_give_the_base(name):
    merged = merge(name, BASE, [BASE] * (OPERATORS[name].max_sources or 3), t=0.3)
    np.testing.assert_allclose(merged, BASE, rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", [name for name in OPERATORS if not OPERATORS[name].needs_base])
def test_models_that_are_equal_give_one_of_them(name):
    merged = merge(name, None, EXPERTS[:1] * (OPERATORS[name].max_sources or 3))
    np.testing.assert_allclose(merged, EXPERTS[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", VECTOR_OPERATORS)
def test_one_source_of_weight_one_is_that_source(name):
    merged = merge(name, experts=EXPERTS[:1], weight=[1.0])
    np.testing.assert_array_equal(merged, BASE + (EXPERTS[0] - BASE))
    np.testing.assert_allclose(merged, EXPERTS[0], rtol=0, atol=3e-7)


UNORDERED = ["linear", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "sce", "model_stock"]


@pytest.mark.parametrize("name", [*UNORDERED, "multislerp", "karcher", "ram", "ramplus_tl"])
def test_the_order_of_the_sources_does_not_matter(name):
    order = [2, 0, 1]
    densities = [0.3, 0.6, 0.9]
    one = merge(name, density=densities, epsilon=0.05, select_topk=0.4)
    two = merge(
        name,
        experts=[EXPERTS[i] for i in order],
        weight=[WEIGHTS[i] for i in order],
        density=[densities[i] for i in order],
        epsilon=0.05,
        select_topk=0.4,
    )
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TRIMMING)
@pytest.mark.parametrize("rescale", [True, False])
def test_density_one_is_no_trim(name, rescale):
    untrimmed = merge(name, density=1.0, rescale=rescale)
    same_bits(untrimmed, merge(name, density=1.0, rescale=not rescale))
    if name in ("dare_linear", "della_linear", "breadcrumbs"):
        same_bits(untrimmed, merge("task_arithmetic"))
    masks = [np.zeros(BASE.shape, np.uint8)] * 3
    if name in RANDOM:
        same_bits(untrimmed, merge(name, density=1.0, masks=masks))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (1, 1), (7,), (2, 3, 4), (5, 1)])
def test_any_shape(name, shape):
    rng = np.random.default_rng(1)
    count = OPERATORS[name].max_sources or 3
    base, *experts = (np.asarray(rng.normal(size=shape), np.float32) for _ in range(1 + count))
    params = {"density": 0.4, "t": 0.3, "select_topk": 0.4}
    merged = merge(name, base, experts, **params)
    assert merged.shape == shape and merged.dtype == np.float32 and np.isfinite(merged).all()
    # Masks, ranks and divergences go by rows, singular vectors by matrices.
    if base.size and name not in (*RANDOM, "arcee_fusion", *MATRICES):
        same_bits(merged.reshape(-1), merge(name, base.reshape(-1), [e.reshape(-1) for e in experts], **params))


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 2, 5), (1, 4), (0, 3), (2, 0)])
def test_nuslerp_and_model_stock_of_vectors_are_those_of_each_alone(axis, shape):
    rng = np.random.default_rng(2)
    base, *experts = (np.asarray(rng.normal(size=shape), np.float32) for _ in range(3))
    cases = [("nuslerp", {"nuslerp_flatten": False, "nuslerp_row_wise": axis == 0, "weight": [0.4, 0.3]})]
    if axis == -1:
        cases.append(("model_stock", {"filter_wise": True}))
    for name, params in cases:
        merged = merge(name, base, experts, **params)
        assert merged.shape == shape
        if not merged.size:
            continue
        alone = [np.moveaxis(array, axis, -1).reshape(-1, shape[axis]) for array in (merged, base, *experts)]
        for row, of_base, *of_experts in zip(*alone, strict=True):
            expected = merge(name, of_base, of_experts, weight=[0.4, 0.3])
            np.testing.assert_allclose(row, expected, rtol=0, atol=2e-6)


def test_ties_keeps_the_largest_and_all_that_are_as_large():
    base, expert = np.zeros(10, np.float32), np.array([1, -3, 2, 2, -2, 0.5, 0, 0, 0, 4], np.float32)
    for density, kept in [(0.01, [9]), (0.25, [1, 9]), (0.3, [1, 2, 3, 4, 9]), (0.6, [0, 1, 2, 3, 4, 9])]:
        merged = merge("ties", base, [expert], weight=[1.0], density=density)
        assert np.flatnonzero(merged).tolist() == kept
        np.testing.assert_array_equal(merged[kept], expert[kept])


def test_ties_elects_signs_and_averages_what_agrees():
    base = np.zeros(5, np.float32)
    one, two = np.array([1, 1, -1, 2, 0], np.float32), np.array([3, -3, -1, -2, 0], np.float32)
    merged = merge("ties", base, [one, two], weight=[1.0, 1.0])
    np.testing.assert_array_equal(merged, [2, -3, -1, 2, 0])  # a tied vote is positive
    merged = merge("ties", base, [one, two], weight=[1.0, -1.0], normalize=False)
    np.testing.assert_array_equal(merged, [-3, 4, 1, 4, 0])  # a tie of 1 and -1 in the third place: 1 wins


@pytest.mark.parametrize("name", TRIMMING)
def test_rescaling_restores_the_norm_of_what_is_left(name):
    merged = merge(name, experts=EXPERTS[:1], weight=[1.0], density=0.3, rescale=True, normalize=False)
    delta = EXPERTS[0].astype(np.float64) - BASE
    assert np.abs(merged - BASE.astype(np.float64)).sum() == pytest.approx(np.abs(delta).sum(), rel=1e-5)
    assert 0.15 < (merged != BASE).mean() < 0.45


def test_masks_depend_on_seed_tensor_and_place_and_are_nested():
    def kept(density=0.5, **where):
        merged = merge("dare_linear", experts=[EXPERTS[0]], weight=[1.0], density=density, rescale=False, **where)
        return merged != BASE

    assert 0.4 < kept().mean() < 0.6
    np.testing.assert_array_equal(kept(), kept())
    for where in ({"seed": 1}, {"tensor": "v"}):
        assert 0.4 < (kept() ^ kept(**where)).mean() < 0.6
    assert not (kept(0.2) & ~kept(0.5)).any()
    both = merge("dare_linear", experts=[EXPERTS[0]] * 2, weight=[1.0, 0.0], density=0.5, rescale=False)
    np.testing.assert_array_equal(both != BASE, kept())


def test_recorded_masks_are_used_as_they_are():
    masks = [RNG.integers(0, 2, BASE.shape).astype(np.uint8) for _ in range(3)]
    merged = merge("dare_linear", masks=masks, density=0.5, rescale=False)
    expected = BASE + sum(
        np.float32(w) * mask * (expert - BASE) for w, mask, expert in zip(WEIGHTS, masks, EXPERTS, strict=True)
    )
    np.testing.assert_allclose(merged, expected, rtol=0, atol=1e-6)


# Those with a length, a distance or a probability in their rule are not homogeneous.
LENGTHS = ("arcee_fusion", "nearswap", "ram", "ramplus_tl", "pcb", "wudi")
HOMOGENEOUS = [name for name in OPERATORS if name not in LENGTHS]


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_huge_and_tiny_values(name, scale):
    """Powers of ten that float32 holds: the result scales along (norms below 1e-7 are not rescaled)."""
    count = OPERATORS[name].max_sources or 3
    base, experts = np.float32(scale) * BASE, [np.float32(scale) * expert for expert in EXPERTS[:count]]
    merged = merge(name, base, experts, density=0.5, t=0.3, rescale=False)
    reference = merge(name, base=BASE, experts=EXPERTS[:count], density=0.5, t=0.3, rescale=False)
    assert np.isfinite(merged).all()
    if scale < 1 and name in ("slerp", "nuslerp", "multislerp", "karcher", "model_stock", "sce"):
        return  # norms vanish
    differ = np.abs(merged / scale - reference) > 1e-5
    assert differ.mean() < 0.002  # magnitudes that round to the cut


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_source_that_is_not_finite_is_refused(bad):
    expert = EXPERTS[0].copy()
    expert[3, 3] = bad
    for name in TRIMMING:
        with pytest.raises(CheckpointError, match="tensor w: source 2 or the base holds NaN or infinite values"):
            merge(name, experts=[EXPERTS[1], expert])


def test_stored_dtypes_are_widened_exactly():
    for dtype in (ml_dtypes.bfloat16, np.float16):
        narrow = [array.astype(dtype) for array in (BASE, *EXPERTS)]
        wide = [array.astype(np.float32) for array in narrow]
        for name in OPERATORS:
            count = 1 + (OPERATORS[name].max_sources or 3)
            one = merge(name, narrow[0], narrow[1:count], density=0.5, t=0.1)
            same_bits(one, merge(name, wide[0], wide[1:count], density=0.5, t=0.1))
        mixed = merge("ties", narrow[0], [narrow[1], wide[2], narrow[3]], density=0.5)
        same_bits(mixed, merge("ties", wide[0], wide[1:], density=0.5))


def test_slerp():
    merged = [merge("slerp", experts=EXPERTS[:1], t=t) for t in (0.0, 1.0)]
    np.testing.assert_allclose(merged[0], BASE, rtol=0, atol=1e-6)
    np.testing.assert_allclose(merged[1], EXPERTS[0], rtol=0, atol=1e-6)
    one, two = np.array([1, 0, 0], np.float32), np.array([0, 2, 0], np.float32)
    halfway = merge("slerp", one, [two], t=0.5)
    np.testing.assert_allclose(halfway, [np.sqrt(0.5), 2 * np.sqrt(0.5), 0], atol=1e-6)
    for other in (-one, one * 3, np.zeros(3, np.float32)):  # antipodal, colinear, zero
        merged = merge("slerp", one, [other], t=0.25)
        of_one, of_other = (0.75, 0.25) if other.any() else (np.sin(0.75 * np.pi / 2), 0)
        np.testing.assert_allclose(merged, of_one * one + of_other * other, atol=1e-6)


def test_sine():
    x = np.linspace(-900, 900, 100_001).astype(np.float32)
    assert np.abs(np.asarray(jax.jit(sine)(x)) - np.sin(x.astype(np.float64))).max() < 2e-7


def test_linear_refuses_weights_that_sum_to_zero():
    check = OPERATORS["linear"].check
    assert "sum to zero" in check({"weight": [0.5, -0.5], "normalize": True})
    assert check({"weight": [0.5, -0.5], "normalize": False}) is None
    assert check({"weight": [0.5, 0.1], "normalize": True}) is None
    assert OPERATORS["ties"].check({"weight": [0.5, -0.5], "normalize": True}) is None


CHOSEN = ("weight", "t", "density")


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_match_finite_differences(name):
    operator = OPERATORS[name]
    count = operator.max_sources or 3
    base = BASE if operator.needs_base else None
    values = complete(operator, {p.name: 0.4 for p in operator.parameters if p.name in CHOSEN}, count)
    if "weight" in values:
        values["weight"] = np.array(WEIGHTS)
    grid = {p.name: tuple(values[p.name].reshape(-1, 1)) for p in operator.parameters if p.gridded}
    # the first source outvotes the others everywhere, so that no election flips within a step
    sizes = RNG.uniform(0.5, 1, (3, *BASE.shape)) * RNG.choice([-1, 1], (3, *BASE.shape))
    deltas = sizes * np.reshape([0.1, 0.02, 0.005], (3, 1, 1))
    experts = tuple((BASE + deltas[:count]).astype(np.float32))
    prepared = operator.prepare(Sources(base, experts), Request("w", 0, grid))
    stats = prepared.stats
    tile = Tile(base, experts, np.arange(len(BASE), dtype=np.uint32), prepared.fields)
    direction = jnp.asarray(RNG.normal(size=BASE.shape), jnp.float32)

    @jax.jit
    def loss(moved):
        return jnp.sum(direction * operator.apply(tile, stats, {**params, **moved}))

    params = {key: jnp.asarray(value, jnp.float32) for key, value in values.items()}
    for key in {"weight", "lambda", "t", "scale"} & set(params):
        gradient = np.asarray(jax.grad(loss)({key: params[key]})[key]).reshape(-1)
        for i in range(gradient.size):
            step = np.zeros(gradient.size, np.float32)
            step[i] = 1e-2
            step = step.reshape(params[key].shape)
            difference = (loss({key: params[key] + step}) - loss({key: params[key] - step})) / 2e-2
            assert gradient[i] == pytest.approx(float(difference), rel=1e-2, abs=1e-2)


def test_breadcrumbs_cuts_both_ends():
    base, expert = np.zeros(10, np.float32), np.array([1, -2, 3, -4, 5, -6, 7, -8, 9, -10], np.float32)

    def kept(**params):
        return np.flatnonzero(merge("breadcrumbs", base, [expert], weight=[1.0], **params)).tolist()

    assert kept(density=0.5, gamma=0.2) == [3, 4, 5, 6, 7]
    assert kept(density=0.9, gamma=0.3) == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # mergekit's rule: the density is met
    assert kept(density=0.9, gamma=0.3, published=True) == [0, 1, 2, 3, 4, 5, 6]
    assert kept(density=1.0, gamma=0.2) == list(range(10))
    assert kept(density=1.0, gamma=0.2, published=True) == list(range(8))
    assert kept(density=0.0, gamma=0.2) == [] == kept(density=0.05, gamma=0.0)


def test_della_keeps_large_elements_more_often():
    base = np.zeros((1, 4000), np.float32)
    expert = RNG.permutation(np.arange(1, 4001)).astype(np.float32)[None]
    merged = merge("della_linear", base, [expert], weight=[1.0], density=0.5, epsilon=0.4, rescale=False)
    kept = merged[0, np.argsort(expert[0])] != 0
    for part, share in zip(np.split(kept, 4), (0.2, 0.4, 0.6, 0.8), strict=True):
        assert part.mean() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("name", RANDOM)
def test_the_published_rescaling_is_right_on_average(name):
    base, expert = np.zeros((60, 4000), np.float32), np.ones((60, 4000), np.float32)
    merged = merge(name, base, [expert], weight=[1.0], density=0.4, epsilon=0.3, published=True, normalize=False)
    assert merged.mean() == pytest.approx(1.0, abs=0.02)
    if name.startswith("dare"):
        assert set(np.unique(merged)) == {np.float32(0), np.float32(1) / np.float32(0.4)}
    same_bits(merge(name, density=0.4, published=True, rescale=False), merge(name, density=0.4, rescale=False))


def test_sce_selects_by_variance_and_weighs_by_energy():
    base = np.zeros(4, np.float32)
    one, two = np.array([3, 1, 1, -1], np.float32), np.array([-1, 1, 2, -1], np.float32)
    # variances 4, 0, 1/4, 0; energies of all 12 and 7, of the first 9 and 1
    np.testing.assert_allclose(merge("sce", base, [one, two]), [3, 1, (12 + 14) / 19, -1], rtol=1e-6)
    np.testing.assert_allclose(merge("sce", base, [one, two], select_topk=0.5), [3, 0, 0, 0], rtol=1e-6)
    assert not merge("sce", base, [one, two], select_topk=0.0).any()


def test_ram_averages_what_is_shared():
    base = np.zeros(4, np.float32)
    one, two = np.array([2, 1, 0, 1e-6], np.float32), np.array([4, 0, -3, 0], np.float32)
    np.testing.assert_allclose(merge("ram", base, [one, two]), [3, 1, -3, 0])
    stronger = merge("ramplus_tl", base, [one, two], r=0.5, alpha=0.8)  # one of two changes of each is shared
    np.testing.assert_allclose(stronger, [3, 1.4, -4.2, 0], rtol=1e-6)


def test_nearswap_takes_what_is_near():
    base, other = np.array([1, 1, 1], np.float32), np.array([1.05, 1.2, 3], np.float32)
    np.testing.assert_allclose(merge("nearswap", base, [other], t=0.1), [1.05, 1.1, 1.1], rtol=1e-6)
    same_bits(merge("nearswap", base, [other], t=0.0), base)


def test_model_stock_by_agreement():
    base = np.zeros((2, 4), np.float32)
    one, two = (np.array(rows, np.float32) for rows in ([[1, 0, 0, 0], [2, 0, 0, 0]], [[0, 1, 0, 0], [4, 0, 0, 0]]))
    by_row = merge("model_stock", base, [one, two], filter_wise=True)
    np.testing.assert_array_equal(by_row[0], 0)  # at right angles: the base
    np.testing.assert_allclose(by_row[1], [3, 0, 0, 0], rtol=1e-6)  # of one direction: the average
    cosine = 8 / np.sqrt(5 * 17)
    whole = merge("model_stock", base, [one, two])
    np.testing.assert_allclose(whole, 2 * cosine / (1 + cosine) * (one + two) / 2, rtol=1e-6)


def test_directions_are_averaged_on_the_sphere():
    one, two, three = np.eye(3, dtype=np.float32) * np.float32([[2], [3], [7]])
    expected = np.full(3, 4 / np.sqrt(3))
    np.testing.assert_allclose(merge("karcher", None, [one, two, three]), expected, rtol=1e-6)
    np.testing.assert_allclose(merge("multislerp", None, [one, two, three], weight=[1.0] * 3), expected, rtol=1e-6)
    halfway = merge("nuslerp", None, [one / 2, two / 3], weight=[0.5, 0.5])
    np.testing.assert_allclose(halfway, merge("karcher", None, [one / 2, two / 3]), atol=1e-6)
    for name in ("multislerp", "karcher"):  # lengths do not turn the mean
        scaled = merge(name, None, [EXPERTS[0] * 2, EXPERTS[1], EXPERTS[2]], weight=[1.0] * 3)
        plain = merge(name, None, EXPERTS, weight=[1.0] * 3)
        np.testing.assert_allclose(scaled / np.linalg.norm(scaled), plain / np.linalg.norm(plain), atol=1e-6)


def test_multislerp_of_directions_that_cancel_out():
    one = np.array([1, 0, 0], np.float32)
    np.testing.assert_allclose(merge("multislerp", None, [one, -2 * one], weight=[1.0, 1.0]), [-0.5, 0, 0], atol=1e-6)
    three = merge("multislerp", None, [one, -one, one], weight=[1.0, 1.0, 0.0])
    assert np.isnan(three).all()
    nothing = np.zeros(3, np.float32)
    assert not merge("multislerp", None, [nothing] * 3).any()


def test_arcee_fusion_takes_over_few_changes_whole():
    merged = merge("arcee_fusion", experts=EXPERTS[:1])
    changed = merged != BASE
    assert 0.01 < changed.mean() < 0.2
    np.testing.assert_array_equal(merged[changed], (BASE + (EXPERTS[0] - BASE))[changed])
    assert np.abs(EXPERTS[0] - BASE)[changed].mean() > np.abs(EXPERTS[0] - BASE)[~changed].mean()


def test_consensus_leaves_out_what_matters_to_one_model_only():
    base = np.zeros(3, np.float32)
    one, two = np.array([1, 1, 0], np.float32), np.array([0, 1, 0.1], np.float32)
    np.testing.assert_array_equal(merge("consensus_ta", base, [one, two], weight=[1, 1]), [0, 2, 0])
    everywhere = merge("consensus_ta", consensus=0)
    same_bits(everywhere, merge("task_arithmetic"))


def test_a_tall_mask_finds_its_model_again():
    base, supports = BASE, RNG.integers(0, 3, BASE.shape)
    experts = [np.where(supports == i, expert, BASE) for i, expert in enumerate(EXPERTS)]
    for i, expert in enumerate(experts):
        found = merge("tall_mask", base, experts, weight=[1.0] * 3, task=i + 1)
        np.testing.assert_allclose(found, expert, rtol=0, atol=3e-7)


LINEAR = [name for name in OPERATORS if OPERATORS[name].coefficients]


def takes(name, base):
    operator = OPERATORS[name]
    return operator.takes_base if base else not operator.needs_base


@pytest.mark.parametrize(("name", "based"), [(n, b) for n in LINEAR for b in (False, True) if takes(n, b)])
def test_coefficients_say_what_apply_does(name, based):
    operator = OPERATORS[name]
    experts = tuple(EXPERTS[: operator.max_sources or 3])
    params = {"weight": WEIGHTS[: len(experts)], "t": 0.3, "scale": 0.7, "normalize": True, "lambda": 1.3}
    params = {p.name: params[p.name] for p in operator.parameters if p.name in params}
    base = BASE if based else None
    values = complete(operator, params, len(experts))
    grid = {p.name: tuple(values[p.name].reshape(-1, 1)) for p in operator.parameters if p.gridded}
    stats = operator.prepare(Sources(base, experts), Request("w", 0, grid)).stats
    of_base, of_experts = operator.coefficients(stats, values, len(experts), based)
    expected = merge_tensor(operator, base, experts, params, tensor="w", seed=0)
    parts = [expert - (base if based else 0) for expert in experts]
    got = of_base * BASE + sum(c * part for c, part in zip(np.asarray(of_experts), parts, strict=True))
    assert of_experts.shape == (len(experts),)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
