"""Recipes on task vectors beyond mergekit's methods: from disk to disk as tensor by tensor, by depth, and negated."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxmerge.errors import InputError
from jaxmerge.merging.merge import merge
from jaxmerge.operators import OPERATORS, merge_tensor

INPUTS = Path(__file__).parents[1] / "golden" / "inputs"
BASE, *EXPERTS = (load_file(INPUTS / name / "model.safetensors") for name in ("base", "ft1", "ft2"))


def merged(folder: Path, method: str, weights: list[Any] | None = None, **parameters: Any) -> dict[str, np.ndarray]:
    models: list[dict[str, Any]] = [{"model": str(INPUTS / f"ft{i}")} for i in (1, 2)]
    for model, weight in zip(models, weights or (), strict=False):
        model["parameters"] = {"weight": weight}
    recipe = {"merge_method": method, "base_model": str(INPUTS / "base"), "models": models[: len(weights or models)]}
    out = merge(recipe | {"parameters": parameters, "dtype": "float32"}, folder / "out")
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("name", ["emr", "pcb", "cabs", "tsv"])
def test_a_merge_on_disk_is_that_of_its_tensors(name: str, tmp_path: Path) -> None:
    found = merged(tmp_path, name, **{"lambda": 0.7})
    for tensor, array in found.items():
        alone = merge_tensor(
            OPERATORS[name], BASE[tensor], [e[tensor] for e in EXPERTS], {"lambda": 0.7}, tensor=tensor, seed=0
        )
        np.testing.assert_array_equal(array, alone, err_msg=tensor)


def test_a_gradient_scales_task_vectors_by_depth(tmp_path: Path) -> None:
    """LiNeS: alpha + beta l / (L - 1)."""
    found = merged(tmp_path, "task_arithmetic", [1.0, 1.0], **{"lambda": [0.2, 0.8]})
    names = [name for name in found if "up_proj" in name or name.endswith("input_layernorm.weight")]
    depth = 1 + max(int(name.split(".")[2]) for name in names)
    for name in names:
        scale = 0.2 + 0.6 * int(name.split(".")[2]) / (depth - 1)
        base = BASE[name].astype(np.float64)
        expected = base + scale * sum(e[name].astype(np.float64) - base for e in EXPERTS)
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_a_negative_weight_takes_away_what_a_model_learned(tmp_path: Path) -> None:
    found = merged(tmp_path, "task_arithmetic", [-0.5])
    for name, array in found.items():
        np.testing.assert_allclose(array, 1.5 * BASE[name].astype(np.float64) - 0.5 * EXPERTS[0][name], atol=1e-6)


def test_cabs_keeps_no_more_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n is 9 and m is 4; make n at most m"):
        merged(tmp_path, "cabs", n=9, m=4)
