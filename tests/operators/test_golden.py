"""Parity with mergekit 0.1.5, tensor by tensor, on its recorded merges (see tests/golden/README.md).

Gradients, slices and tied embeddings are the recipe's business: here every parameter is one number for the whole model.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from jaxmerge.operators import merge_tensor, operator
from jaxmerge.operators.arithmetic import widened
from jaxmerge.operators.interface import Operator, Request, Sources, Tile
from jaxmerge.operators.trims.ranked import kept_below

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def tensors(model: str) -> dict[str, np.ndarray]:
    return load_file(GOLDEN / model / "model.safetensors")


TRIMMING = ("ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties")


def near(values: np.ndarray, cut: Callable[[np.ndarray], float], share: float) -> np.ndarray:
    at = cut(values.ravel())
    return (np.abs(values - at) <= share * at) & (values > 0)


def kept_between(name: str, size: np.ndarray, density: float, gamma: float) -> tuple[float, float, list[float]]:
    """The smallest and the largest magnitude that a trim keeps, and those between which it cuts."""
    ascending = np.sort(size.ravel())
    kept = int(density * size.size)
    if name == "ties":
        low = ascending[-max(1, kept)]
        return low, np.inf, [low]
    bottom = max(0, size.size - kept - int(gamma * size.size))
    edges = [bottom - 1, bottom, bottom + kept - 1, bottom + kept]
    values = [ascending[min(max(edge, 0), size.size - 1)] for edge in edges]
    return values[1], values[2], values


def importance(base: np.ndarray, experts: list[np.ndarray]) -> np.ndarray:
    """Arcee Fusion's, in float64: |delta| times the row's KL divergence from the base."""
    other = experts[0]
    p, q = (np.exp(widened(x).astype(np.float64)) for x in (other, base))
    p, q = (x / x.sum(axis=-1, keepdims=True) + 1e-8 for x in (p, q))
    return np.abs(widened(other) - widened(base)) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)


def upper_fence(values: np.ndarray) -> float:
    low, median, high = (np.sort(values)[int(q * (values.size - 1))] for q in (0.25, 0.5, 0.75))
    return median + 1.5 * (high - low)


class Case:
    """One recorded merge, and ours of the same inputs."""

    def __init__(self, name: str):
        self.folder = GOLDEN / name
        self.config = YAML(typ="safe").load(self.folder / "config.yaml")
        self.operator: Operator = operator(self.config["merge_method"])
        self.expected = tensors(f"{name}/out")
        self.base = self.config.get("base_model") if self.operator.takes_base else None
        self.models = [model for model in self.config["models"] if model["model"] != self.base]
        masks = self.folder / "masks.safetensors"
        self.masks = load_file(masks) if masks.exists() else None

    def value(self, model: dict, name: str, tensor: str):
        settings = model.get("parameters", {}), self.config.get("parameters", {})
        setting = next((s[name] for s in settings if name in s), self.operator.parameter(name).default)
        if isinstance(setting, list):
            setting = next(row["value"] for row in setting if row.get("filter", "") in tensor)
        return setting

    def params(self, tensor: str) -> dict:
        return {
            p.name: [self.value(model, p.name, tensor) for model in self.models]
            if p.per_source
            else self.value({}, p.name, tensor)
            for p in self.operator.parameters
        }

    def inputs(self, tensor: str) -> tuple[np.ndarray | None, list[np.ndarray]]:
        """The sources in the dtype that mergekit computed in, as its loader casts them."""
        models = [self.base, *(model["model"] for model in self.models)]
        found = [None if model is None else tensors(model)[tensor] for model in models]
        if dtype := self.config.get("dtype"):
            found = [None if array is None else array.astype(dtype) for array in found]
        return found[0], found[1:]

    def recorded(self, tensor: str) -> list[np.ndarray] | None:
        """The Bernoulli draws of each source; a density of 1 draws nothing."""
        if self.masks is None:
            return None
        everything = np.ones(self.expected[tensor].shape, np.uint8)
        return [self.masks.get(f"{tensor}::{Path(model['model']).name}", everything) for model in self.models]

    def merged(self, tensor: str) -> np.ndarray:
        base, experts = self.inputs(tensor)
        params, masks = self.params(tensor), self.recorded(tensor)
        ours = merge_tensor(self.operator, base, experts, params, tensor=tensor, seed=0, masks=masks)
        return ours.astype(self.expected[tensor].dtype)

    def deltas(self, tensor: str) -> list[np.ndarray]:
        base, experts = self.inputs(tensor)
        return [widened(expert) - widened(base) for expert in experts]

    def undecided(self, tensor: str, share: float) -> np.ndarray:
        """Elements that may go either way: within `share` of a cut (mergekit's order among equals is arbitrary), or,
        where its maths is coarse, a vote whose sum is within `share` of nothing."""
        found = np.zeros(self.expected[tensor].shape, bool)
        params, masks, name = self.params(tensor), self.recorded(tensor), self.operator.name
        if name == "arcee_fusion":
            return found | near(importance(*self.inputs(tensor)), upper_fence, share)
        if name == "sce" and params["select_topk"] < 1:
            spread = np.var(self.deltas(tensor), axis=0, dtype=np.float64)
            kept = int(params["select_topk"] * np.count_nonzero(spread))
            return found | near(spread, lambda x: np.sort(x)[-kept], max(share, 1e-6))
        if name not in TRIMMING:
            return found
        vote, ballots = np.zeros(found.shape), np.zeros(found.shape)
        for i, delta in enumerate(self.deltas(tensor)):
            size, update, density = np.abs(delta), delta.copy(), params["density"][i]
            if masks is not None:
                update *= masks[i].reshape(update.shape)
            elif density < 1:
                gamma = params.get("gamma", [0] * 3)[i]
                low, high, edges = kept_between(name, size, density, gamma)
                for edge in edges:
                    found |= near(size, lambda values, edge=edge: edge, share)
                update[(size < low) | (size > high)] = 0
            if params["rescale"]:
                whole, kept = np.abs(delta).sum(), np.abs(update).sum()
                update = update * (whole / kept if min(whole, kept) > 1e-7 else 1)
            vote, ballots = vote + params["weight"][i] * update, ballots + np.abs(params["weight"][i] * update)
        elects = name.endswith("ties") or name == "della"
        return found | ((np.abs(vote) <= share * ballots) & (ballots > 0)) if share and elects else found

    def compare(self, bound: float, share: float = 0.0, bounds: dict[str, float] | None = None) -> int:
        """Holds every decided element within `bound` of the tensor's largest value; returns how many were left out.
        bounds: of single tensors."""
        left_out = 0
        for tensor, expected in self.expected.items():
            ours, skip = self.merged(tensor), self.undecided(tensor, share)
            assert ours.shape == expected.shape
            wide = expected.astype(np.float64)
            error = np.abs(ours.astype(np.float64) - wide)[~skip].max(initial=0)
            allowed = (bounds or {}).get(tensor, bound)
            assert error <= allowed * np.abs(wide).max(), f"{tensor}: {error} of {np.abs(wide).max()}"
            left_out += int(skip.sum())
        return left_out


IN_FLOAT32 = [
    "linear",
    "linear_nonorm",
    "linear_mixed_in",
    "linear_bf16in_fp32math_bf16out",
    "task_arithmetic",
    "task_arithmetic_norm_lambda",
    "edge_task_arithmetic_zero_wsum",
    "ties",
    "ties_density1",
    "ties_lambda_nonorm_negw",
    "ties_bf16in_fp32math_bf16out",
    "edge_ties",
    "dare_ties_norescale",
    "breadcrumbs",
    "breadcrumbs_defaults_density09",
    "breadcrumbs_ties",
    "edge_breadcrumbs",
    "edge_ram",
    "passthrough_scale",
    # mergekit computes these in float32 whatever the dtype
    "linear_bf16",
    "linear_nonorm_bf16",
    "ex_linear",
    "passthrough_scale_bf16",
    "slerp_t035_bf16",
]
LEFT_OUT = {
    "ties": 166,
    "ties_lambda_nonorm_negw": 166,
    "edge_ties": 531,
    "breadcrumbs": 519,
    "breadcrumbs_ties": 519,
    "edge_breadcrumbs": 582,
}
WITH_SUMS = [
    "ties_rescale",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "slerp_t035",
    "edge_slerp",
    "nuslerp_flat",
    "nuslerp_flat_base",
    "nuslerp_col",
    "nuslerp_col_base",
    "nuslerp_row",
    "nuslerp_row_base",
    "edge_nuslerp",
    "edge_nuslerp_zero_weights",
    "multislerp",
    "multislerp_base",
    "multislerp_unnorm",
    "karcher",
    "karcher_1iter",
    "edge_karcher",
    "model_stock",
    "model_stock_filterwise",
    "edge_model_stock",
    "nearswap",
    "edge_nearswap",
    "sce",
    "sce_topk",
    "edge_sce",
    "ram",
    "ramplus_tl",
]
COARSE = [
    "task_arithmetic_bf16",
    "ties_bf16",
    "ties_bf16in_nodtype",
    "dare_linear_bf16",
    "dare_ties_bf16",
    "della_bf16",
    "della_linear_bf16",
    "breadcrumbs_bf16",
    "breadcrumbs_ties_bf16",
    "sce_bf16",
    "sce_topk_bf16",
    "ram_bf16",
    "ramplus_tl_bf16",
    "nearswap_bf16",
    "multislerp_base_bf16",
    "nuslerp_flat_base_bf16",
    "nuslerp_col_base_bf16",
    "nuslerp_row_base_bf16",
    "ex_bio_merge",
]
# Norms, angles and coefficients are rounded as well, and they multiply whole tensors.
COARSER = [
    "karcher_bf16",
    "model_stock_bf16",
    "model_stock_filterwise_bf16",
    "multislerp_bf16",
    "nuslerp_flat_bf16",
    "nuslerp_col_bf16",
    "nuslerp_row_bf16",
]
# One tensor of these is the base's times -1. Between antipodes there is no one way; mergekit's depends on how the
# cosine is rounded, and ours is a line.
ANTIPODAL = {"edge_nuslerp": np.inf, "edge_karcher": 1e-5}


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_equal_to_the_bit(name):
    """Where mergekit computes in float32, every element that is not at a cut is the same."""
    left_out = Case(name).compare(bound=0)
    assert left_out == LEFT_OUT.get(name, left_out)
    assert left_out <= 830


@pytest.mark.parametrize("name", WITH_SUMS)
def test_sums_and_angles_to_float32_rounding(name):
    """mergekit sums in float32 and in its own order; ours are exact before they are rounded."""
    bounds = {"model.layers.0.self_attn.v_proj.weight": ANTIPODAL[name]} if name in ANTIPODAL else {}
    assert Case(name).compare(bound=1e-6, bounds=bounds) <= 300


def case_in_16_bits(name: str) -> tuple[Case, float]:
    case = Case(name)
    dtype = case.config.get("dtype") or next(iter(case.expected.values())).dtype
    return case, float(ml_dtypes.finfo(np.dtype(dtype)).eps)


@pytest.mark.parametrize("name", COARSE)
def test_coarse_maths_to_its_rounding(name):
    """mergekit rounds weights and every operation to bfloat16 or float16; we round once. A handful of roundings, each
    of half a unit in the last place, stays within two units of the largest value; decisions closer than four are left
    out."""
    case, unit = case_in_16_bits(name)
    left_out = case.compare(bound=unit, share=2 * unit)
    assert left_out < 0.3 * sum(array.size for array in case.expected.values())


@pytest.mark.parametrize("name", COARSER)
def test_coarse_coefficients_to_their_rounding(name):
    case, unit = case_in_16_bits(name)
    assert case.compare(bound=2 * unit) == 0


def test_arcee_fusion_takes_over_the_same_changes():
    """In float32 all but the borderline ones, to the bit: mergekit's divergences of single rows have three digits."""
    assert Case("arcee_fusion").compare(bound=0, share=0.1) < 520


@pytest.mark.parametrize("name", ["arcee_fusion_bf16", "ex_arcee_fusion"])
def test_arcee_fusion_in_16_bits_takes_over_about_as_much(name):
    """Its divergences have no digit left there; every element is the base's or the other model's all the same."""
    case = Case(name)
    share = {"ours": 0.0, "theirs": 0.0}
    for tensor, expected in case.expected.items():
        base, (other,) = case.inputs(tensor)
        for which, merged in {"ours": case.merged(tensor), "theirs": expected}.items():
            rounding = (np.abs(widened(base)) + np.abs(widened(other))) * 2.0**-7
            assert np.all((merged == base) | (np.abs(widened(merged) - widened(other)) <= rounding))
            share[which] += float((merged != base).sum())
    assert share["ours"] == pytest.approx(share["theirs"], rel=0.25)


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_probabilities_of_being_kept(name):
    """What a draw is compared with is mergekit's recorded probability, for every element whose magnitude is not that of
    another of its row (their order is arbitrary in mergekit)."""
    case = Case(name)
    for tensor, expected in case.expected.items():
        base, experts = case.inputs(tensor)
        params = {key: np.asarray(value, np.float64) for key, value in case.params(tensor).items()}
        grid = {p.name: tuple(params[p.name].reshape(-1, 1)) for p in case.operator.parameters if p.gridded}
        prepared = case.operator.prepare(Sources(base, tuple(experts)), Request(tensor, 0, grid))
        tile = Tile(base, tuple(experts), np.arange(1, dtype=np.uint32), prepared.fields)
        for i, model in enumerate(case.models):
            below = kept_below(i, tile, prepared.stats, params)
            theirs = case.masks[f"{tensor}::{Path(model['model']).name}::probs"].reshape(expected.shape)
            ours = np.asarray(below) / 2**24
            np.testing.assert_allclose(np.sort(ours), np.sort(theirs), rtol=0, atol=2e-7)
            size = np.abs(case.deltas(tensor)[i])
            alone = (size[..., None] == size[..., None, :]).sum(axis=-1) == 1
            assert alone.any()
            np.testing.assert_allclose(ours[alone], theirs[alone], rtol=0, atol=2e-7)
