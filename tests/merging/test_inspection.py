"""Inspection: the numbers equal numpy's, and what cannot be merged is named."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging import kinship
from jaxmerge.merging.inspection import inspect

CONFIG = {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "vocab_size": 10, "hidden_size": 4}
NAMES = {
    "embed.weight": (10, 4),
    "layers.0.mixer.weight": (6, 4),
    "layers.10.mixer.weight": (6, 4),
    "layers.2.mixer.weight": (6, 4),
    "layers.2.mixer.scale": (),
    "norm.weight": (4,),
    "lm_head.weight": (10, 4),
}


@pytest.fixture
def make(tmp_path):
    def make(name, seed=0, *, dtype=np.float32, shapes=NAMES, like=None, change=None, **config) -> str:
        rng = np.random.default_rng(seed)
        tensors = {k: np.array(rng.normal(size=shape)).astype(dtype) for k, shape in shapes.items()}
        if like is not None:
            tensors = {k: np.asarray(read(like)[k] + dtype(0.1) * array) for k, array in tensors.items()}
        if change:
            change(tensors)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG | config))
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        return str(folder)

    return make


def read(folder: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(Path(folder) / "model.safetensors")


def flat_delta(model: str, base: str, prefix: str = "") -> np.ndarray:
    a, b = read(model), read(base)
    parts = [a[k].astype(np.float64) - b[k].astype(np.float64) for k in NAMES if k.startswith(prefix)]
    return np.concatenate([part.reshape(-1) for part in parts])


def test_what_a_model_is(make):
    result = inspect([make("a", dtype=ml_dtypes.bfloat16)])
    (model,) = result["models"]
    count = sum(int(np.prod(shape)) for shape in NAMES.values())
    assert model["architecture"] == "MambaForCausalLM" and model["model_type"] == "mamba"
    assert not model["evolvable"] and not model["tied"]
    assert (model["parameters"], model["bytes"]) == (count, 2 * count)
    assert (model["layers"], model["vocabulary"], model["dtype"]) == (3, 10, "bfloat16")
    assert result["base"] is result["deltas"] is result["kinship"] is None
    assert result["mergeable"] and json.loads(json.dumps(result)) == result


def test_deltas_and_kinship_equal_numpys(make, monkeypatch):
    monkeypatch.setattr(kinship, "BLOCK", 12)
    base = make("base")
    models = [make(f"m{i}", seed=i, like=base) for i in (1, 2, 3)]
    calls = []
    result = inspect(models, base, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(NAMES), len(NAMES))
    deltas = [flat_delta(model, base) for model in models]
    for i, (entry, delta) in enumerate(zip(result["deltas"], deltas, strict=True)):
        assert entry["model"] == models[i]
        np.testing.assert_allclose(entry["total"]["norm"], np.linalg.norm(delta), rtol=1e-12)
        np.testing.assert_allclose(entry["total"]["mean_absolute"], np.abs(delta).mean(), rtol=1e-12)
        assert list(entry["groups"]) == ["embedding", "layer 0", "layer 2", "layer 10", "head"]
        part = flat_delta(models[i], base, "layers.2.")
        np.testing.assert_allclose(entry["groups"]["layer 2"]["norm"], np.linalg.norm(part), rtol=1e-12)
    np.testing.assert_allclose(result["kinship"]["pearson"], np.corrcoef(deltas), atol=1e-12)
    norms = np.linalg.norm(deltas, axis=1)
    cosine = np.array(deltas) @ np.array(deltas).T / np.outer(norms, norms)
    np.testing.assert_allclose(result["kinship"]["cosine"], cosine, atol=1e-12)
    distance = [[np.linalg.norm(a - b) for b in deltas] for a in deltas]
    np.testing.assert_allclose(result["kinship"]["euclidean"], distance, atol=1e-12)


def test_a_model_that_is_the_base_has_no_direction(make):
    base, other = make("base"), make("other", seed=1)
    result = inspect([base, other], base)
    assert result["deltas"][0]["total"] == {
        "norm": 0.0,
        "mean_absolute": 0.0,
        "changed": 0.0,
        "relative": 0.0,
    }
    assert result["kinship"]["cosine"][0] == [None, None] and result["kinship"]["euclidean"][0][0] == 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_what_differs_is_named_and_the_rest_is_measured(make):
    base = make("base")
    small = make("small", shapes=NAMES | {"embed.weight": (9, 4)}, vocab_size=9)
    less = make("less", shapes={k: v for k, v in NAMES.items() if k != "lm_head.weight"})
    result = inspect([small, less], base)
    assert not result["mergeable"]
    text = "\n".join(result["differences"])
    assert f"'vocab_size' is 10 in {base} and 9 in {small}" in text
    assert f"tensor 'embed.weight' is [10, 4] in {base} and [9, 4] in {small}" in text
    assert f"tensor 'lm_head.weight' is missing in {less}" in text
    assert "embedding" not in result["deltas"][0]["groups"]


def test_long_lists_of_differences_are_cut(make):
    base = make("base")
    other = make("other", shapes={"x.weight": (3,)})
    result = inspect([other], base)
    assert len(result["differences"]) == 6 and "3 more" in result["differences"][-1]
    assert result["deltas"] is None


def test_keys_that_change_the_meaning_are_noted(make):
    base, other = make("base"), make("other", seed=1, rope_theta=5e5)
    result = inspect([other], base)
    assert result["mergeable"] and "rope_theta" in result["notes"][0]


def test_bad_input(make, tmp_path):
    base = make("base")
    broken = make("broken", change=lambda tensors: tensors["norm.weight"].fill(np.nan))
    with pytest.raises(CheckpointError, match=r"broken.*norm\.weight.*NaN"):
        inspect([broken], base)
    with pytest.raises(InputError, match="no such folder"):
        inspect([str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="no models"):
        inspect([])


def test_a_sample_of_blocks_reads_so_many_of_each_tensor(make, monkeypatch):
    base, one, two = make("base"), make("one", 1), make("two", 2)
    opened = [kinship.Checkpoint.open(Path(folder)) for folder in (base, one, two)]
    monkeypatch.setattr(kinship, "BLOCK", 4)  # a row of the matrices
    every = kinship.measure_deltas(opened[0], opened[1:])
    some = kinship.measure_deltas(opened[0], opened[1:], blocks_of_each=3)
    assert {group: moments.count for group, moments in every.items()}["embedding"] == 40
    assert {group: moments.count for group, moments in some.items()}["embedding"] == 12
    rows = (read(one)["embed.weight"] - read(base)["embed.weight"]).astype(np.float64)[[0, 4, 8]]
    assert some["embedding"].products[0, 0] == pytest.approx(np.square(rows).sum(), rel=1e-5)
    assert kinship.measure_deltas(opened[0], opened[1:], blocks_of_each=10)["embedding"].count == 40
