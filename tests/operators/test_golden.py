"""Parity with mergekit 0.1.5, tensor by tensor, on its recorded merges (see tests/golden/README.md).

Gradients, slices and tied embeddings are the recipe's business: here every parameter is one number for the whole model.
"""

from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from jaxmerge.operators import merge_tensor, operator
from jaxmerge.operators.arithmetic import widened
from jaxmerge.operators.interface import Operator

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def tensors(model: str) -> dict[str, np.ndarray]:
    return load_file(GOLDEN / model / "model.safetensors")


class Case:
    """One recorded merge, and ours of the same inputs."""

    def __init__(self, name: str):
        self.folder = GOLDEN / name
        self.config = YAML(typ="safe").load(self.folder / "config.yaml")
        self.operator: Operator = operator(self.config["merge_method"])
        self.expected = tensors(f"{name}/out")
        self.base = self.config.get("base_model") if self.operator.needs_base else None
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

    def undecided(self, tensor: str, share: float) -> np.ndarray:
        """Elements that may go either way: a magnitude within `share` of the cut (mergekit's order among equals is
        arbitrary), or, where its maths is coarse, a vote whose sum is within `share` of nothing."""
        base, experts = self.inputs(tensor)
        params, masks = self.params(tensor), self.recorded(tensor)
        shape = experts[0].shape
        found, vote, ballots = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
        if not self.operator.name.endswith("ties"):
            return found
        for i, expert in enumerate(experts):
            update = widened(expert) - widened(base)
            if masks is not None:
                update *= masks[i]
            elif params["density"][i] < 1:
                size = np.abs(update)
                cut = np.sort(size.ravel())[-max(1, int(params["density"][i] * size.size))]
                found |= np.abs(size - cut) <= share * cut
                update[size < cut] = 0
            if params["rescale"]:
                whole, kept = np.abs(widened(expert) - widened(base)).sum(), np.abs(update).sum()
                update = update * (whole / kept if min(whole, kept) > 1e-7 else 1)
            vote, ballots = vote + params["weight"][i] * update, ballots + np.abs(params["weight"][i] * update)
        return found if share == 0 else found | ((np.abs(vote) <= share * ballots) & (ballots > 0))

    def compare(self, bound: float, share: float = 0.0) -> int:
        """Holds every decided element within `bound` of the tensor's largest value; returns how many were left out."""
        left_out = 0
        for tensor, expected in self.expected.items():
            ours, skip = self.merged(tensor), self.undecided(tensor, share)
            assert ours.shape == expected.shape
            wide = expected.astype(np.float64)
            error = np.abs(ours.astype(np.float64) - wide)[~skip].max(initial=0)
            assert error <= bound * np.abs(wide).max(), f"{tensor}: {error} of {np.abs(wide).max()}"
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
    "passthrough_scale",
    # mergekit computes these in float32 whatever the dtype
    "linear_bf16",
    "linear_nonorm_bf16",
    "ex_linear",
    "passthrough_scale_bf16",
    "slerp_t035_bf16",
]
WITH_NORMS = ["ties_rescale", "dare_linear", "dare_ties", "slerp_t035", "edge_slerp"]
COARSE = [
    "task_arithmetic_bf16",
    "ties_bf16",
    "ties_bf16in_nodtype",
    "dare_linear_bf16",
    "dare_ties_bf16",
    "ex_bio_merge",
]


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_equal_to_the_bit(name):
    """Where mergekit computes in float32, every element that is not at a cut is the same."""
    left_out = Case(name).compare(bound=0)
    assert left_out == {"ties": 173, "ties_lambda_nonorm_negw": 173, "edge_ties": 786}.get(name, left_out)
    assert left_out <= 830


@pytest.mark.parametrize("name", WITH_NORMS)
def test_norms_and_angles_to_float32_rounding(name):
    """mergekit sums norms in float32 and in its own order; ours are exact before they are rounded."""
    Case(name).compare(bound=1e-6)


@pytest.mark.parametrize("name", COARSE)
def test_coarse_maths_to_its_rounding(name):
    """mergekit rounds weights and every operation to bfloat16 or float16; we round once. A handful of roundings, each
    of half a unit in the last place, stays within two units of the largest value; decisions closer than four are left
    out."""
    case = Case(name)
    unit = float(ml_dtypes.finfo(next(iter(case.expected.values())).dtype).eps)
    left_out = case.compare(bound=unit, share=2 * unit)
    assert left_out < 0.3 * sum(array.size for array in case.expected.values())
