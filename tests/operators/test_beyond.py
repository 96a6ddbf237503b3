"""Operators that mergekit lacks: their papers' formulas in float64, and what must hold of each."""

import numpy as np
import pytest

from jaxmerge.errors import CheckpointError
from jaxmerge.operators import OPERATORS, merge_tensor
from jaxmerge.operators.cabs import kept
from jaxmerge.operators.iso_cts import divided_rank

RNG = np.random.default_rng(3)
BASE = RNG.normal(size=(18, 24)).astype(np.float32)
EXPERTS = [BASE + RNG.normal(size=BASE.shape).astype(np.float32) * np.float32(0.1) for _ in range(3)]
DELTAS = [expert.astype(np.float64) - BASE for expert in EXPERTS]
WEIGHTS = [0.5, 0.3, 0.9]
NAMES = ["emr", "pcb", "cabs", "tsv", "iso_c", "iso_cts", "wudi"]
SMALL = {"cabs": {"n": 2, "m": 8}, "wudi": {"steps": 40, "learning_rate": 1e-3}}


def merge(name, experts=EXPERTS, base=BASE, tensor="layers.0.mlp.up_proj.weight", **params):
    known = {p.name for p in OPERATORS[name].parameters}
    chosen = SMALL.get(name, {}) | ({"weight": WEIGHTS[: len(experts)]} if "weight" in known else {}) | params
    return merge_tensor(OPERATORS[name], base, experts, chosen, tensor=tensor, seed=0)


def svd(matrix):
    return np.linalg.svd(matrix, full_matrices=False)


def orthogonal(matrix):
    u, _, v = svd(matrix)
    return u @ v


def emr(deltas):
    total = sum(w * d for w, d in zip(WEIGHTS, deltas, strict=True))
    sign = np.where(total > 0, 1, -1)
    return sign * np.max([np.maximum(sign * w * d, 0) for w, d in zip(WEIGHTS, deltas, strict=True)], axis=0)


def pcb(deltas, ratio=0.1):
    stack = np.stack([d.reshape(-1) for d in deltas])

    def between(x):
        least, most = x.min(1, keepdims=True), x.max(1, keepdims=True)
        return (x - least) / (most - least)

    score = np.exp(len(stack) * between(np.abs(stack)) ** 2) * np.tanh(stack * stack.sum(0))
    cut = np.sort(score, axis=1)[:, [int(stack.shape[1] * (1 - ratio))]]
    share = between(np.maximum(score, cut))
    mix = (share * np.reshape(WEIGHTS, (-1, 1)) * stack).sum(0) / np.maximum(share.sum(0), 1e-12)
    return mix.reshape(deltas[0].shape)


def cabs(deltas, n=2, m=8):
    free, mix = np.ones(deltas[0].size, bool), np.zeros(deltas[0].size)
    for weight, delta in zip(WEIGHTS, deltas, strict=True):
        flat = delta.reshape(-1)
        for start in range(0, flat.size, m):
            places = [k for k in range(start, start + m) if free[k]]
            for k in sorted(places, key=lambda k: -abs(flat[k]))[:n]:
                free[k], mix[k] = False, weight * flat[k]
    return mix.reshape(deltas[0].shape)


def tsv(deltas):
    kept = min(deltas[0].shape) // len(deltas)
    found = [svd(d) for d in deltas]
    left = orthogonal(np.concatenate([u[:, :kept] for u, _, _ in found], axis=1))
    right = orthogonal(np.concatenate([v[:kept] for _, _, v in found]))
    values = np.concatenate([w * s[:kept] for w, (_, s, _) in zip(WEIGHTS, found, strict=True)])
    return left @ np.diag(values) @ right


def iso_c(deltas):
    u, s, v = svd(sum(deltas))
    return s.mean() * u @ v


def iso_cts(deltas, common=15):
    own = (min(deltas[0].shape) - common) // len(deltas)
    u, s, v = svd(sum(deltas))
    u, s, v = u[:, :common], s[:common], v[:common]
    apart = [svd(d - u @ u.T @ d) for d in deltas]
    left = orthogonal(np.concatenate([*(a[0][:, :own] for a in apart), u], axis=1))
    right = orthogonal(np.concatenate([*(a[2][:own] for a in apart), v]))
    return np.concatenate([*(a[1][:own] for a in apart), s]).mean() * left @ right


def interference(x, deltas):
    return sum(np.square((x - d) @ d.T).sum() / np.square(d).sum() for d in deltas)


def wudi(deltas, steps=40, rate=1e-3):
    x = sum(deltas)
    first = second = 0.0
    for t in range(1, steps + 1):
        gradient = sum(2 * (x - d) @ d.T @ d / np.square(d).sum() for d in deltas)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        x = x - rate * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return x


@pytest.mark.parametrize("name", NAMES)
def test_the_formula(name):
    np.testing.assert_allclose(merge(name, **{"lambda": 0.8}), BASE + 0.8 * globals()[name](DELTAS), atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_is_the_base_to_the_bit(name):
    base = BASE.copy()
    base[0, :3] = [-0.0, 1e-39, -1e-45]
    for merged in (merge(name, [base] * 3, base), merge(name, base=base, **{"lambda": 0.0})):
        np.testing.assert_array_equal(merged.view(np.uint32), base.view(np.uint32))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cabs"])
def test_the_order_of_the_models_does_not_matter(name):
    order = [2, 0, 1]
    chosen = {"weight": [WEIGHTS[i] for i in order]} if name in ("emr", "pcb", "tsv") else {}
    np.testing.assert_allclose(merge(name, [EXPERTS[i] for i in order], **chosen), merge(name), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params"), [("emr", {}), ("emr", {"task": 1}), ("pcb", {"ratio": 1.0}), ("cabs", {"n": 8}), ("tsv", {})]
)
def test_one_model_of_weight_one_is_that_model(name, params):
    expected = EXPERTS[0].copy()
    if name == "pcb":  # the least score has no weight
        least = np.abs(DELTAS[0]).argmin()
        expected.flat[least] = BASE.flat[least]
    np.testing.assert_allclose(merge(name, EXPERTS[:1], weight=[1.0], **params), expected, atol=1e-6)
    if name in ("emr", "tsv"):
        negated = merge(name, EXPERTS[:1], weight=[-1.0])
        np.testing.assert_allclose(negated, 2 * BASE - EXPERTS[0], atol=1e-6)


def test_wudi_of_one_model_is_that_model():
    np.testing.assert_allclose(merge("wudi", EXPERTS[:1]), EXPERTS[0], atol=1e-6)


def test_models_that_are_equal():
    same, delta = EXPERTS[:1] * 3, DELTAS[0]
    ones = [1.0] * 3
    np.testing.assert_allclose(merge("emr", same, weight=ones), EXPERTS[0], atol=1e-6)
    u, s, v = svd(delta)
    np.testing.assert_allclose(merge("tsv", same, weight=ones), BASE + u[:, :6] * s[:6] @ v[:6], atol=2e-6)
    np.testing.assert_allclose(merge("iso_c", same), BASE + 3 * s.mean() * u @ v, atol=3e-6)
    largest = np.sort(np.abs(delta.reshape(-1, 8)), axis=1)[:, 2:3]  # each of the three takes two of eight
    chosen = np.where(np.abs(delta.reshape(-1, 8)) >= largest, delta.reshape(-1, 8), 0).reshape(delta.shape)
    np.testing.assert_allclose(merge("cabs", same, weight=ones), BASE + chosen, atol=1e-6)


def test_emr_finds_a_model_again():
    """On disjoint supports mask and rescaler give each back."""
    supports = RNG.integers(0, 3, BASE.shape)
    experts = [np.where(supports == i, expert, BASE) for i, expert in enumerate(EXPERTS)]
    for i, expert in enumerate(experts):
        found = merge("emr", experts, weight=[1.0] * 3, task=i + 1)
        np.testing.assert_allclose(found, expert, atol=3e-7)
    rescaled = merge("emr", weight=[1.0] * 3, task=2).astype(np.float64) - BASE
    assert np.abs(rescaled).sum() == pytest.approx(np.abs(DELTAS[1]).sum(), rel=1e-5)


def test_cabs_shares_no_element_and_fills_every_block():
    size = np.arange(1, 11, dtype=np.float32)
    np.testing.assert_array_equal(np.flatnonzero(kept(size, 2, 4)), [2, 3, 6, 7, 9])
    assert not kept(np.zeros(6, np.float32), 3, 4).any()
    masks = OPERATORS["cabs"]
    assert masks.check({"n": 3, "m": 2}) and not masks.check({"n": 2, "m": 2})
    alone = [merge("cabs", weight=[float(i == j) for j in range(3)]) != BASE for i in range(3)]
    np.testing.assert_array_equal(sum(map(np.asarray, alone), start=np.zeros(BASE.shape, int)) <= 1, True)
    assert all((mask.reshape(-1, 8).sum(axis=1) == 2).all() for mask in alone)


def test_iso_makes_all_directions_equal_and_keeps_their_sum():
    for name in ("iso_c", "iso_cts"):
        values = svd(merge(name).astype(np.float64) - BASE)[1]
        np.testing.assert_allclose(values, values.mean(), rtol=1e-4)
    assert values.size * svd(merge("iso_c") - BASE)[1].mean() == pytest.approx(svd(sum(DELTAS))[1].sum(), rel=1e-5)
    assert [divided_rank(18, 3, c) for c in (0.0, 0.5, 0.8, 1.0)] == [(0, 6), (9, 3), (15, 1), (18, 0)]
    assert divided_rank(5, 3, 0.0) == (2, 1)
    np.testing.assert_allclose(merge("iso_cts", common=1.0), merge("iso_c"), atol=2e-6)


def test_directions_of_rounding_take_no_part():
    """Task vectors of rank 2, as LoRAs have: singular vectors beyond it are arbitrary."""
    low = [(RNG.normal(size=(18, 2)) @ RNG.normal(size=(2, 24)) * 0.1).astype(np.float32) for _ in range(3)]
    experts = [BASE * 0 + delta for delta in low]
    for name, rank in (("tsv", 6), ("iso_c", 6), ("iso_cts", 6)):
        values = svd(merge(name, experts, BASE * 0, **({"weight": [1.0] * 3} if name == "tsv" else {})))[1]
        assert (values[rank:] < 1e-5).all() and values[rank - 1] > 1e-2, name


def test_wudi_interferes_less_than_the_sum():
    started, ended = (interference(merge("wudi", steps=s).astype(np.float64) - BASE, DELTAS) for s in (0, 200))
    assert ended < 0.5 * started


@pytest.mark.parametrize("name", ["tsv", "iso_c", "iso_cts", "wudi"])
@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "model.norm.weight"])
def test_what_is_no_linear_layer_is_averaged(name, tensor):
    cut = np.s_[:] if "embed" in tensor else np.s_[0]
    chosen = {"weight": [1.0] * 3} if name == "tsv" else {}
    merged = merge(name, [expert[cut] for expert in EXPERTS], BASE[cut], tensor=tensor, **chosen)
    np.testing.assert_allclose(merged, np.mean([expert[cut] for expert in EXPERTS], axis=0), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "emr"])
def test_a_model_that_is_not_finite_is_refused(name):
    bad = EXPERTS[0].copy()
    bad[0, 0] = np.inf
    with pytest.raises(CheckpointError, match=r"up_proj.weight: a source or the base holds NaN or infinite values"):
        merge(name, [bad, EXPERTS[1], EXPERTS[2]])
