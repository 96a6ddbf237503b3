"""Whole merges against what mergekit 0.1.5 made of the same recipes (see ../golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.merging.write import write
from jaxmerge.recipe.plan import Plan, make_plan
from jaxmerge.recipe.schema import load_recipes
from jaxmerge.recipe.tensors import TensorPlan

GOLDEN = Path(__file__).parents[1] / "golden"
# mergekit computed in float32: equal to 1e-6 of a tensor's largest value.
FLOAT32 = (
    "breadcrumbs",
    "breadcrumbs_defaults_density09",
    "breadcrumbs_ties",
    "dare_linear",
    "dare_ties",
    "dare_ties_norescale",
    "della",
    "della_linear",
    "edge_breadcrumbs",
    "edge_karcher",
    "edge_model_stock",
    "edge_nearswap",
    "edge_nuslerp",
    "edge_nuslerp_zero_weights",
    "edge_ram",
    "edge_sce",
    "edge_slerp",
    "edge_task_arithmetic_zero_wsum",
    "edge_ties",
    "gradient_precedence",
    "karcher",
    "karcher_1iter",
    "linear",
    "linear_mixed_in",
    "linear_nonorm",
    "model_stock",
    "model_stock_filterwise",
    "multislerp",
    "multislerp_base",
    "multislerp_unnorm",
    "nearswap",
    "nuslerp_col",
    "nuslerp_col_base",
    "nuslerp_flat",
    "nuslerp_flat_base",
    "nuslerp_row",
    "nuslerp_row_base",
    "passthrough_scale",
    "ram",
    "ramplus_tl",
    "sce",
    "sce_topk",
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
    "breadcrumbs_bf16",
    "breadcrumbs_ties_bf16",
    "dare_linear_bf16",
    "dare_ties_bf16",
    "della_bf16",
    "della_linear_bf16",
    "ex_bio_merge",
    "ex_gradient_slerp",
    "ex_linear",
    "ex_ties",
    "karcher_bf16",
    "linear_bf16",
    "linear_nonorm_bf16",
    "model_stock_bf16",
    "model_stock_filterwise_bf16",
    "multislerp_base_bf16",
    "multislerp_bf16",
    "nearswap_bf16",
    "nuslerp_col_base_bf16",
    "nuslerp_col_bf16",
    "nuslerp_flat_base_bf16",
    "nuslerp_flat_bf16",
    "nuslerp_row_base_bf16",
    "nuslerp_row_bf16",
    "passthrough_scale_bf16",
    "ram_bf16",
    "ramplus_tl_bf16",
    "sce_bf16",
    "sce_topk_bf16",
    "slerp_t035_bf16",
    "task_arithmetic_bf16",
    "ties_bf16",
    "ties_bf16in_nodtype",
)
# Decided by sums that mergekit rounds (see tests/operators/test_golden.py): nearly all elements are equal.
DECIDED = {"arcee_fusion": 0.995, "arcee_fusion_bf16": 0.8, "ex_arcee_fusion": 0.8}
# mergekit writes these in float32 although their recipes say bfloat16.
FORGETFUL = ("ramplus_tl_bf16", "arcee_fusion_bf16", "ex_arcee_fusion")
# Between antipodes there is no one way (see tests/operators/test_golden.py).
ANTIPODES = "model.layers.0.self_attn.v_proj.weight"


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


def merged(case: str, out: Path) -> tuple[Plan, Checkpoint, Checkpoint]:
    plan = make_plan(*load_recipes(f"{case}/config.yaml")[0])
    masks = Path(case, "masks.safetensors")
    write(plan, out, masks=load_file(masks) if masks.exists() else None)
    ours, theirs = Checkpoint.open(out), Checkpoint.open(f"{case}/out")
    assert {n: t.shape for n, t in ours.tensors.items()} == {n: t.shape for n, t in theirs.tensors.items()}
    assert all(t.dtype == theirs.tensors[n].dtype for n, t in ours.tensors.items()) or case in FORGETFUL
    return plan, ours, theirs


def at_the_cut(plan: Plan, tensor: TensorPlan) -> np.ndarray:
    """Elements that are equal in magnitude to one at a cut: mergekit takes any of them."""
    found = np.zeros(tensor.shape, bool)
    name = plan.operator.name
    if name not in ("ties", "breadcrumbs", "breadcrumbs_ties", "sce"):
        return found
    base = plan.models[tensor.base.model].read(tensor.base.name).astype(np.float32)
    deltas = [plan.models[piece.model].read(piece.name).astype(np.float32) - base for piece in tensor.sources]
    for i, delta in enumerate(deltas):
        size, cut_off = np.abs(delta), 0
        if name == "sce":
            size = np.var(deltas, axis=0)
            kept = int(tensor.params["select_topk"] * np.count_nonzero(size))
        else:
            kept = int(tensor.params["density"][i] * delta.size)
        if name.startswith("breadcrumbs"):
            cut_off = int(tensor.params["gamma"][i] * delta.size)
        ascending = np.sort(size, axis=None)
        if kept < size.size:
            places = {size.size - cut_off - 1, max(0, size.size - cut_off - max(1, kept))}
            found |= np.any([(size == ascending[n]) & ((size == ascending[n]).sum() > 1) for n in places], axis=0)
    return found


def differences(plan: Plan, ours: Checkpoint, theirs: Checkpoint, skipped: str | None = None) -> np.ndarray:
    """Relative to the largest value of each tensor, elements at the cut left out."""
    found = []
    for tensor in plan.tensors:
        if tensor.name == skipped:
            continue
        a, b = ours.read(tensor.name).astype(np.float64), theirs.read(tensor.name).astype(np.float64)
        found.append((np.abs(a - b) / np.abs(b).max())[~at_the_cut(plan, tensor)])
    return np.concatenate(found)


@pytest.mark.parametrize("case", FLOAT32)
def test_float32_cases_agree(case: str, tmp_path: Path) -> None:
    skipped = ANTIPODES if case in ("edge_karcher", "edge_nuslerp") else None
    assert differences(*merged(case, tmp_path / "out"), skipped).max() <= 1e-6


@pytest.mark.parametrize("case", EXACT)
def test_exact_cases_are_equal_bit_for_bit(case: str, tmp_path: Path) -> None:
    found = differences(*merged(case, tmp_path / "out"))
    assert found.max() == 0 and found.size > 10_000


@pytest.mark.parametrize("case", ROUNDED)
def test_cases_of_16_bit_maths_agree_but_for_rounding(case: str, tmp_path: Path) -> None:
    assert np.quantile(differences(*merged(case, tmp_path / "out")), 0.95) <= 2**-7


@pytest.mark.parametrize("case", DECIDED)
def test_cases_of_decisions_mostly_agree(case: str, tmp_path: Path) -> None:
    assert (differences(*merged(case, tmp_path / "out")) <= 2**-7).mean() >= DECIDED[case]


@pytest.mark.parametrize("case", ["linear", "ex_orcamini_platy_franken", "tied_ties"])
def test_the_config_is_mergekits(case: str, tmp_path: Path) -> None:
    merged(case, tmp_path / "out")
    ours, theirs = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "out", Path(case, "out")))
    assert ours == theirs
