"""Where candidates run, and how their weights are divided, changes no score; and nothing is sent but what must be."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_a_mesh import JOINT_MEMORY, LAYERS, SIZES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    words = [sys.executable, "-P", str(ROOT / "tests/support/on_a_mesh.py"), str(tmp_path_factory.mktemp("world"))]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["dare_ties", "nuslerp"])
def test_scores_and_texts_do_not_depend_on_the_mesh(found: dict[str, Any], name: str) -> None:
    first, *others = found[name].values()
    assert len(others) and np.isfinite(first["likelihood"]).all()
    for other in others:
        # Sums over a row are put together in another order.
        np.testing.assert_allclose(other["likelihood"], first["likelihood"], atol=1e-5, rtol=1e-6)
        assert other["text"] == first["text"]


@pytest.mark.parametrize("name", ["dare_ties", "nuslerp"])
def test_what_is_merged_does_not_depend_on_the_mesh(found: dict[str, Any], name: str) -> None:
    """Neither masks, thresholds nor angles know that tensors are divided: the same bits."""
    first, *others = found[name].values()
    for other in others:
        assert other["merged"] == first["merged"]


def test_candidates_of_one_batch_are_divided_over_the_mesh(found: dict[str, Any]) -> None:
    one, two = found["batched"]["1"], found["batched"]["2"]
    assert len(one) == 3 and np.isfinite(one).all()
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-6)


def test_gradients_do_not_depend_on_the_mesh(found: dict[str, Any]) -> None:
    whole, divided = found["gradient"]["1"], found["gradient"]["4"]
    assert divided["sum"] == pytest.approx(whole["sum"], abs=1e-4)
    np.testing.assert_allclose(divided["weight"], whole["weight"], atol=1e-4, rtol=1e-4)


def test_paths_with_a_merge_do_not_depend_on_the_mesh(found: dict[str, Any]) -> None:
    large, small = (found["joint"][memory] for memory in JOINT_MEMORY)
    assert None not in large["scores"] and len(large["scores"]) == 3
    assert small["scores"] == pytest.approx(large["scores"], abs=1e-5)


def test_the_mesh_is_chosen_by_the_memory_of_a_device(found: dict[str, Any]) -> None:
    large, small = (found["joint"][memory] for memory in JOINT_MEMORY)
    assert (large["chosen"]["mesh"], small["chosen"]["mesh"]) == ({"pop": 8, "model": 1}, {"pop": 4, "model": 2})
    assert large["chosen"]["bank"] == small["chosen"]["bank"] == "device"
    assert "pop 4 x model 2" in small["placed"] and "; device needs 0.000" in small["placed"]
    # Norms, the keys' only head and a vocabulary of 37 are whole on both.
    assert f"(bank {small['bank'] / 1e9:.2g}, " in small["placed"] and small["bank"] < 0.65 * large["bank"]


@pytest.mark.parametrize(("name", "mesh"), [("nuslerp", "1 x 1"), ("dare_ties", "8 x 1")])
def test_candidates_beside_each_other_send_nothing(found: dict[str, Any], name: str, mesh: str) -> None:
    assert found[name][mesh]["collectives"] == []


@pytest.mark.parametrize("name", ["dare_ties", "nuslerp"])
def test_a_divided_candidate_sends_activations_only(found: dict[str, Any], name: str) -> None:
    """Two sums a layer, one for the rows of the embedding, and the largest logit and two sums of the vocabulary's
    parts."""
    sent = found[name]["2 x 4"]["collectives"]
    assert LAYERS > 1 and {one["kind"] for one in sent} == {"all-reduce"}
    tokens = (3, 8)  # of the bucket
    stream = sorted([*tokens, SIZES["hidden_size"]])
    # The loop over the layers holds each once, whatever their number.
    in_layer = [one["shapes"] for one in sent if one["in_layer"]]
    assert [[sorted(shape) for shape in shapes] for shapes in in_layer] == [[stream]] * 2
    rest = [shapes for one in sent if not one["in_layer"] for shapes in [one["shapes"]]]
    embedding = [shapes for shapes in rest if any(len(shape) == 3 for shape in shapes)]
    assert len(embedding) == 1
    loss = [shape for shapes in rest if shapes not in embedding for shape in shapes]
    assert loss == [[tokens[0] * (tokens[1] - 1)]] * 3
