"""Whole merges against what mergekit 0.1.5 made of the same recipes (see ../golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.merging.merge import write
from jaxmerge.recipe.plan import Plan, make_plan
from jaxmerge.recipe.schema import load_recipe
from jaxmerge.recipe.tensors import TensorPlan

GOLDEN = Path(__file__).parents[1] / "golden"
# mergekit computed in float32: equal to 1e-6 of a tensor's largest value.
FLOAT32 = (
    "dare_linear",
    "dare_ties",
    "dare_ties_norescale",
    "edge_slerp",
    "edge_task_arithmetic_zero_wsum",
    "edge_ties",
    "gradient_precedence",
    "linear",
    "linear_mixed_in",
    "linear_nonorm",
    "passthrough_scale",
    "slerp_t035",
    "task_arithmetic",
    "task_arithmetic_norm_lambda",
    "tied_linear",
    "tied_ties",
    "ties",
    "ties_density1",
    "ties_lambda_nonorm_negw",
    "ties_rescale",
)
# Only bytes move, or one rounding at the end: equal bit for bit.
EXACT = ("ex_orcamini_platy_franken", "linear_bf16in_fp32math_bf16out", "ties_bf16in_fp32math_bf16out")
# mergekit rounds every operation to 16 bits: nearly all elements are within its rounding.
ROUNDED = (
    "dare_linear_bf16",
    "dare_ties_bf16",
    "ex_bio_merge",
    "ex_gradient_slerp",
    "ex_linear",
    "ex_ties",
    "linear_bf16",
    "linear_nonorm_bf16",
    "passthrough_scale_bf16",
    "slerp_t035_bf16",
    "task_arithmetic_bf16",
    "ties_bf16",
    "ties_bf16in_nodtype",
)


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


def merged(case: str, out: Path) -> tuple[Plan, Checkpoint, Checkpoint]:
    plan = make_plan(*load_recipe(f"{case}/config.yaml"))
    masks = Path(case, "masks.safetensors")
    write(plan, out, masks=load_file(masks) if masks.exists() else None)
    ours, theirs = Checkpoint.open(out), Checkpoint.open(f"{case}/out")
    assert {n: (t.shape, t.dtype) for n, t in ours.tensors.items()} == {
        n: (t.shape, t.dtype) for n, t in theirs.tensors.items()
    }
    return plan, ours, theirs


def at_the_cut(plan: Plan, tensor: TensorPlan) -> np.ndarray:
    """Elements with a task vector equal in magnitude to the smallest that is kept: mergekit takes any of them."""
    found = np.zeros(tensor.shape, bool)
    if plan.operator.name != "ties":
        return found
    base = plan.models[tensor.base.model].read(tensor.base.name).astype(np.float32)
    for piece, density in zip(tensor.sources, tensor.params["density"], strict=True):
        size = np.abs(plan.models[piece.model].read(piece.name).astype(np.float32) - base)
        if density < 1:
            cut = np.sort(size, axis=None)[-max(1, int(density * size.size))]
            found |= (size == cut) & ((size == cut).sum() > 1)
    return found


def differences(plan: Plan, ours: Checkpoint, theirs: Checkpoint) -> np.ndarray:
    """Relative to the largest value of each tensor, elements at the cut left out."""
    found = []
    for tensor in plan.tensors:
        a, b = ours.read(tensor.name).astype(np.float64), theirs.read(tensor.name).astype(np.float64)
        found.append((np.abs(a - b) / np.abs(b).max())[~at_the_cut(plan, tensor)])
    return np.concatenate(found)


@pytest.mark.parametrize("case", FLOAT32)
def test_float32_cases_agree(case: str, tmp_path: Path) -> None:
    assert differences(*merged(case, tmp_path / "out")).max() <= 1e-6


@pytest.mark.parametrize("case", EXACT)
def test_exact_cases_are_equal_bit_for_bit(case: str, tmp_path: Path) -> None:
    found = differences(*merged(case, tmp_path / "out"))
    assert found.max() == 0 and found.size > 10_000


@pytest.mark.parametrize("case", ROUNDED)
def test_cases_of_16_bit_maths_agree_but_for_rounding(case: str, tmp_path: Path) -> None:
    assert np.quantile(differences(*merged(case, tmp_path / "out")), 0.95) <= 2**-7


@pytest.mark.parametrize("case", ["linear", "ex_orcamini_platy_franken", "tied_ties"])
def test_the_config_is_mergekits(case: str, tmp_path: Path) -> None:
    merged(case, tmp_path / "out")
    ours, theirs = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "out", Path(case, "out")))
    assert ours == theirs
