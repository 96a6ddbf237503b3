"""What a merge leaves on disk, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxmerge.merging.tensor as tensor_module
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.documents import Document
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.merge import merge
from jaxmerge.merging.tensor import tiles

INPUTS = Path(__file__).parents[1] / "golden" / "inputs"
DARE = {
    "merge_method": "dare_ties",
    "base_model": str(INPUTS / "base"),
    "models": [{"model": str(INPUTS / f"ft{i}"), "parameters": {"weight": 0.5, "density": 0.5}} for i in (1, 2)],
}


def linear(*models: Path | str, **more: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": str(m)} for m in models], "parameters": {"weight": 1}} | more


def same(a: Path, b: Path) -> bool:
    return (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def changed(folder: Path, name: str, array: np.ndarray) -> Path:
    shutil.copytree(INPUTS / "ft1", folder)
    tensors = load_file(folder / "model.safetensors") | {name: array}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_folder_holds_card_recipe_and_companions(tmp_path: Path) -> None:
    out = merge(linear(INPUTS / "ft1", INPUTS / "ft2"), tmp_path / "out")
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "mergekit_config.yml",
        "model.safetensors",
    }
    card = (out / "README.md").read_text()
    assert "model: ft2" in card and str(INPUTS) not in card
    assert Document.read(out / "mergekit_config.yml").data == linear(INPUTS / "ft1", INPUTS / "ft2")


def test_the_card_names_the_parents_and_their_licenses(tmp_path: Path) -> None:
    for name in ("ft1", "ft2"):
        shutil.copytree(INPUTS / name, tmp_path / name)
        (tmp_path / name / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    card = (merge(linear(tmp_path / "ft1", tmp_path / "ft2"), tmp_path / "same") / "README.md").read_text()
    assert "\nbase_model:\n- ft1\n- ft2\n" in card and "\nlicense: apache-2.0\n" in card.split("\n---\n")[0] + "\n"
    assert "- `ft1`, license: apache-2.0" in card
    (tmp_path / "ft2" / "README.md").unlink()
    card = (merge(linear(tmp_path / "ft1", tmp_path / "ft2"), tmp_path / "other") / "README.md").read_text()
    assert "\nlicense: other\n" in card.split("\n---\n")[0] + "\n"
    assert "- `ft2`, license: not known here, see its own card" in card


def test_a_large_output_is_sharded(tmp_path: Path) -> None:
    recipe = linear(INPUTS / "ft1")
    whole, parts = merge(recipe, tmp_path / "a"), merge(recipe, tmp_path / "b", max_shard_size=20_000)
    assert len(list(parts.glob("model-*.safetensors"))) > 2
    one, many = Checkpoint.open(whole), Checkpoint.open(parts)
    assert all(np.array_equal(one.read(name), many.read(name)) for name in one.tensors)


def test_masks_follow_the_seed_and_the_written_recipe_repeats_them(tmp_path: Path) -> None:
    a, b = merge(DARE, tmp_path / "a", seed=3), merge(DARE, tmp_path / "b", seed=4)
    assert not same(a, b)
    assert same(a, merge(a / "mergekit_config.yml", tmp_path / "again"))
    assert same(a, merge(DARE | {"jaxmerge": {"seed": 3}}, tmp_path / "own"))


ONE_SOURCE = {"linear": {"weight": 0.7}, "slerp": {"t": 0.3}, "arcee_fusion": {}}
NUSLERP = {"weight": 0.7, "nuslerp_flatten": False}
SEVERAL = {
    "ties": {"weight": 0.7},
    "dare_ties": {"weight": 0.7},
    "della": {"weight": 0.7, "density": 0.4},
    "nuslerp": NUSLERP | {"nuslerp_row_wise": True},
    "model_stock": {"filter_wise": True},
}


@pytest.mark.parametrize("method", [*ONE_SOURCE, *SEVERAL])
def test_tiles_do_not_change_a_bit(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [{"model": str(INPUTS / model)} for model in ("ft1", "ft2")][: 1 if method in ONE_SOURCE else 2]
    recipe = {**DARE, "merge_method": method, "models": models, "parameters": (ONE_SOURCE | SEVERAL)[method]}
    whole = merge(recipe, tmp_path / "whole")
    monkeypatch.setattr(tensor_module, "TILE", 100)
    assert same(whole, merge(recipe, tmp_path / "tiled"))


def test_tiles_have_one_length_and_cover_all_rows() -> None:
    for rows in (1, 2, 7, 4096):
        found = [(cut.start, cut.stop) for cut in tiles(rows, tensor_module.TILE // 3 + 1)]
        assert len({stop - start for start, stop in found}) == 1
        assert set().union(*(range(start, stop) for start, stop in found)) == set(range(rows))
    assert tiles(0, 5) == []


def test_integer_buffers_are_copied_only_if_they_are_equal(tmp_path: Path) -> None:
    for model, steps in (("a", 3), ("b", 3), ("c", 4)):
        tensors = {"w": np.ones((2, 2), np.float32), "steps": np.array(steps, np.int64)}
        (tmp_path / model).mkdir()
        save_file(tensors, tmp_path / model / "model.safetensors")
        (tmp_path / model / "config.json").write_text("{}")
    out = merge(linear(tmp_path / "a", tmp_path / "b"), tmp_path / "out")
    assert Checkpoint.open(out).read("steps") == 3
    with pytest.raises(CheckpointError, match="c: tensor 'steps' of int64 differs"):
        merge(linear(tmp_path / "a", tmp_path / "c"), tmp_path / "other")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_in_a_source_names_file_and_tensor_and_leaves_nothing(value: float, tmp_path: Path) -> None:
    bad = changed(tmp_path / "bad", "model.norm.weight", np.full(16, value, np.float32))
    with pytest.raises(CheckpointError, match=r"bad/model\.safetensors: tensor 'model\.norm\.weight'"):
        merge(linear(INPUTS / "ft1", bad), tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"bad"}


def test_overflow_names_the_tensor(tmp_path: Path) -> None:
    large = changed(tmp_path / "large", "model.norm.weight", np.full(16, 60_000, np.float32))
    recipe = linear(large, large, parameters={"weight": 1, "normalize": False})
    with pytest.raises(InputError, match=r"'model\.norm\.weight' of the merge has values beyond float16"):
        merge(recipe | {"out_dtype": "float16"}, tmp_path / "out")
    huge = changed(tmp_path / "huge", "model.norm.weight", np.full(16, 70_000, np.float32))
    with pytest.raises(CheckpointError, match=r"'model\.norm\.weight' has values beyond float16"):
        merge(linear(huge, dtype="float16"), tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"large", "huge"}


def test_code_that_a_checkpoint_brings_is_neither_run_nor_copied(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(INPUTS.parent / "inputs_tok" / "ftA", model)
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    for name in ("modeling_own.py", "configuration_own.py", "tokenization_own.py"):
        (model / name).write_text(code)
    auto = {"AutoConfig": "configuration_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    tokenizer = {"AutoTokenizer": ["tokenization_own.T", None]}
    for name, entry in (("config.json", auto), ("tokenizer_config.json", tokenizer)):
        content = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(content | {"auto_map": entry}))
    other = str(INPUTS.parent / "inputs_tok" / "ftB")
    merge(linear(model, other, tokenizer={"source": "union"}, chat_template="auto"), tmp_path / "out")
    assert not (tmp_path / "ran").exists() and not list((tmp_path / "out").glob("*.py"))


def test_an_output_that_exists_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(InputError, match="--force"):
        merge(linear(INPUTS / "ft1"), tmp_path / "out")
    assert (tmp_path / "out" / "precious").exists()
    merge(linear(INPUTS / "ft1"), tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "precious").exists()


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_module, "merge_tile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge(linear(INPUTS / "ft1"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_franken_merge_writes_depth_and_layer_lists(tmp_path: Path) -> None:
    shutil.copytree(INPUTS / "ft1", tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    config |= {"layer_types": [f"kind{i}" for i in range(6)]}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    part = {"model": str(tmp_path / "own")}
    slices = [{"sources": [part | {"layer_range": [0, 2]}]}, {"sources": [part | {"layer_range": [1, 6]}]}]
    merge({"merge_method": "passthrough", "slices": slices}, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["num_hidden_layers"] == 7
    assert written["layer_types"] == ["kind0", "kind1", "kind1", "kind2", "kind3", "kind4", "kind5"]


@pytest.fixture
def partial(tmp_path: Path) -> Callable[..., Any]:
    """Models by the names of their tensors, each full of 3 times its place, merged with the first as base."""

    def merged(method: str, *models: str, **parameters: Any) -> dict[str, float]:
        for place, names in enumerate(models, 1):
            folder = tmp_path / str(place)
            folder.mkdir(exist_ok=True)
            save_file({name: np.full((2, 2), 3.0 * place, np.float32) for name in names}, folder / "model.safetensors")
            (folder / "config.json").write_text("{}")
        sources = [{"model": str(tmp_path / str(place))} for place in range(1, len(models) + 1)]
        recipe = {"merge_method": method, "models": sources, "parameters": parameters}
        if method not in ("linear", "nuslerp"):
            recipe["base_model"] = str(tmp_path / "1")
        out = Checkpoint.open(merge(recipe, tmp_path / "out", force=True))
        return {name: float(out.read(name).flat[0]) for name in out.tensors}

    return merged


def test_what_becomes_of_a_tensor_that_models_lack(partial: Callable[..., Any]) -> None:
    assert partial("slerp", "x", "xy", t=1.0) == {"x": 6, "y": 6}
    assert partial("nuslerp", "x", "xy", weight=0.5)["y"] == 6
    assert partial("arcee_fusion", "x", "xy")["y"] == 6
    assert partial("nearswap", "xy", "x", t=0.1)["y"] == 3
    assert partial("model_stock", "xy", "xy", "x")["y"] == 3
    assert "y" not in partial("model_stock", "x", "xy", "xy")
    assert partial("model_stock", "xy", "xy", "xy", "x")["y"] == partial("model_stock", "xy", "xy", "xy")["y"] == 7.5
    for method, models, parameters in (
        ("linear", ("x", "xy"), {"weight": 1.0}),
        ("ties", ("xy", "x"), {"weight": 1.0}),
        ("nearswap", ("x", "xy"), {"t": 0.1}),
    ):
        with pytest.raises(CheckpointError, match="tensor 'y' is missing"):
            partial(method, *models, **parameters)


def test_directions_that_cancel_out_are_refused_by_the_tensors_name(tmp_path: Path) -> None:
    names = [{"model": str(INPUTS / model), "parameters": {"weight": 1}} for model in ("ft1", "ft2", "ft3")]
    names[2]["model"], names[2]["parameters"] = names[0]["model"], {"weight": -1}
    names[1]["parameters"] = {"weight": 0}
    recipe = {"merge_method": "multislerp", "models": names, "parameters": {"normalize_weights": False}}
    with pytest.raises(InputError, match=r"tensor 'model\..*' of the merge has NaN.*cancel out"):
        merge(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
