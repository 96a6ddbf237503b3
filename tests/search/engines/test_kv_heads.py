"""Pools whose models differ in their number of KV heads: a path has the largest, and each model's own function."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import change_json, change_yaml
from on_disk import assert_same_texts, likelihoods, tensors
from safetensors.numpy import save_file
from tiny_world import OBJECTIVES, write_world
from transformers import AutoModelForCausalLM

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.errors import CheckpointError
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.best_recipe import best_recipe
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.dataflow import DataflowEngine
from jaxmerge.search.engines.joint import JointEngine
from jaxmerge.search.resolved import read_config

SPACE = {"kind": "dataflow", "repeats": 2, "max_hops": 12}
JOINT = {"operator": "task_arithmetic", "granularity": "model", "parameters": {"weight": [-0.3, 1.8]}}


def write_pool(
    root: Path, heads: dict[str, int], space: dict[str, Any] = SPACE, query_heads: int = 4, **changes: Any
) -> Path:
    """heads: KV heads of each model. There is a base where it has a number."""
    path = write_world(root, space=space, **changes)
    for seed, (name, count) in enumerate(heads.items()):
        file = root / "models" / name / "config.json"
        sizes = {"num_attention_heads": query_heads, "num_key_value_heads": count, "head_dim": 4}
        change_json(file, attention_bias=True, **sizes)
        config = json.loads(file.read_text())
        architecture, rng = architecture_of(config), np.random.default_rng(seed)
        table = architecture.table(architecture.read(config))
        made = {n: rng.normal(0, 0.3, p.shape).astype(np.float32) for p in table for n in p.names(table.num_layers)}
        save_file(made, file.with_name("model.safetensors"), metadata={"format": "pt"})
    if "base" not in heads:
        change_yaml(path, "base", value=None)
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DataflowEngine:
    path = write_pool(tmp_path_factory.mktemp("pool"), {"a": 2, "b": 4}, objectives=OBJECTIVES)
    engine = DataflowEngine(read_config(path))
    engine.load()
    return engine


def assert_made_again(documents: str, model: Path, folder: Path) -> None:
    (folder / "best.yaml").write_text(documents)
    merge(folder / "best.yaml", folder / "again")
    again, first = tensors(folder / "again"), tensors(model)
    assert {name: array.tobytes() for name, array in again.items()} == {n: a.tobytes() for n, a in first.items()}
    assert (folder / "again" / "config.json").read_bytes() == (model / "config.json").read_bytes()


def test_transformers_gives_the_recorded_score_and_the_same_text(
    engine: DataflowEngine, genome: np.ndarray, exported: Path
) -> None:
    assert {layer // 3 for layer in engine._route(genome).layers.tolist()} == {0, 1}
    assert json.loads((exported / "config.json").read_text())["num_key_value_heads"] == 4
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    copy, say = engine.objectives
    assert isinstance(copy, PreparedObjective) and isinstance(say, PreparedObjective)
    runner = engine._candidates(genome[None])
    np.testing.assert_allclose(likelihoods(model, copy), copy.score(runner, "test").examples[0], atol=1e-4)
    prompts = say.split("test").select(say.config, None).prompts
    assert_same_texts(model, say, runner.generate(prompts, 6, say.tokenizer.eos_ids)[0])


def test_the_recipe_gives_the_model_again_and_says_that_mergekit_cannot(
    engine: DataflowEngine, genome: np.ndarray, exported: Path, tmp_path: Path
) -> None:
    recipe = engine.recipe(genome)
    assert recipe["jaxmerge"]["kv_heads"] == 4
    text = best_recipe([recipe], tmp_path, engine._config)
    assert "mergekit cannot" in text.splitlines()[0]
    assert_made_again(text, exported, tmp_path)


def test_a_path_that_is_the_smaller_model_has_its_score(engine: DataflowEngine) -> None:
    (own,) = engine.starts
    start = engine.start(own)
    assert start is not None and own.name == "a"
    assert engine._models.parent("a").config["num_key_value_heads"] == 2
    copy, runners = engine.objectives[0], (engine._candidates(start[None]), engine._untuned(own))
    path, parent = (copy.score(runner, "test").examples for runner in runners)
    np.testing.assert_allclose(path, parent, atol=1e-5)


def test_a_path_through_models_of_the_largest_number_is_for_mergekit_too(engine: DataflowEngine) -> None:
    config = read_config(engine._config.folder / "evolve.yaml", ["space.input=b"])
    other = DataflowEngine(config)
    start = other.start(Untuned("b", None, ("b",)))
    assert start is not None
    recipe = other.recipe(start)
    assert "kv_heads" not in recipe["jaxmerge"]
    assert "as mergekit reads it" in best_recipe([recipe], config.folder, config)


def test_a_joint_search_merges_them_as_well(tmp_path: Path) -> None:
    path = write_pool(tmp_path, {"base": 1, "a": 2, "b": 4}, SPACE | JOINT | {"kind": "joint", "repeats": 1})
    engine = JointEngine(read_config(path))
    engine.load()
    genome = np.random.default_rng(1).random(engine.dimension, np.float32)
    assert {layer // 3 for layer in engine._route(genome).layers.tolist()} == {0, 1, 2}
    engine.export(genome, tmp_path / "model")
    documents = [*engine.ingredients(genome), engine.recipe(genome)]
    assert [document["jaxmerge"]["kv_heads"] for document in documents] == [4, 4]
    assert_made_again(best_recipe(documents, tmp_path, engine._config), tmp_path / "model", tmp_path)
    (copy,) = engine.objectives
    assert isinstance(copy, PreparedObjective)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    np.testing.assert_allclose(likelihoods(model, copy), engine.measure(genome, "test").examples["copy"], atol=1e-4)


def test_numbers_that_do_not_divide_the_largest_are_refused_by_name(tmp_path: Path) -> None:
    path = write_pool(tmp_path, {"a": 3, "b": 2}, query_heads=6)
    with pytest.raises(CheckpointError, match=r"models\.b: .*/b: num_key_value_heads is 2, which cannot .* to 3 .*/a;"):
        plan(path)


def test_a_dry_run_tells_whose_heads_are_repeated(engine: DataflowEngine) -> None:
    lines = engine.plan()
    assert lines["models"].endswith("(a 3, b 3); KV heads of a repeated to 4")
    assert engine.baselines and "while an untuned merge is made" in lines["bank"]
