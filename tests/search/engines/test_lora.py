"""Searches over LoRAs of one base: the models are those that the LoRAs make, by references that hold anywhere."""

from pathlib import Path

import numpy as np
import pytest
from lora_folder import product, write_lora
from miniature import CONFIG
from tiny_world import write_world

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.documents import write_yaml
from jaxmerge.errors import CheckpointError
from jaxmerge.merging.merge import merge
from jaxmerge.search.algorithms.registry import RandomSearch
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.fingerprint import hash_of_model
from jaxmerge.search.resolved import read_config, require_same_models, resolve

MODULE = "model.layers.1.mlp.up_proj"
SHAPE = (CONFIG["intermediate_size"], CONFIG["hidden_size"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loras")
    refs = {name: f"models/base+loras/{name}" for name in ("a", "b")}
    for seed, name in enumerate(refs):
        write_lora(root / "loras" / name, product(MODULE, SHAPE, seed=seed), base_model_name_or_path="base")
    write_world(root, models=refs)
    return root


def test_what_is_scored_is_exported_and_made_again_by_the_recipe(world: Path, tmp_path: Path) -> None:
    engine = ParameterEngine(read_config(world / "evolve.yaml"))
    engine.load()
    genome = np.random.default_rng(2).random(engine.dimension, dtype=np.float32)
    engine.export(genome, tmp_path / "exported")
    recipe = engine.recipe(genome)
    assert recipe["models"][0]["model"] == f"{world}/models/base+{world}/loras/a"
    (tmp_path / "best.yaml").write_text(write_yaml(recipe))
    merge(tmp_path / "best.yaml", tmp_path / "merged")
    exported, merged, base = (
        {name: found.read(name).tobytes() for name in found.tensors}
        for found in map(Checkpoint.open, (tmp_path / "exported", tmp_path / "merged", world / "models" / "base"))
    )
    assert exported == merged
    assert [name for name in base if base[name] != merged[name]] == [f"{MODULE}.weight"]


def test_a_run_records_its_loras_and_sees_that_one_has_changed(world: Path, tmp_path: Path) -> None:
    config = read_config(world / "evolve.yaml")
    engine = ParameterEngine(config)
    recorded = resolve(config, engine, RandomSearch(engine.dimension, 4, 0))
    assert recorded.models["a"] == f"{world}/models/base+{world}/loras/a"
    require_same_models(recorded, engine, tmp_path)
    before = hash_of_model(engine.locations["a"])
    assert {"config", "weights", "lora_config", "lora_weights"} <= set(before)
    file = world / "loras" / "a" / "adapter_model.safetensors"
    kept = file.read_bytes()
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(Exception, match=r"the model 'a' \(.*loras/a\) has changed since the run"):
        require_same_models(recorded, engine, tmp_path)
    file.write_bytes(kept)


def test_an_expert_that_parts_the_embeddings_is_refused_by_name(world: Path) -> None:
    head = product("lm_head", (CONFIG["vocab_size"], CONFIG["hidden_size"]))
    write_lora(world / "loras" / "head", head, base_model_name_or_path="base")
    config = read_config(world / "evolve.yaml", ["models.b=models/base+loras/head"])
    with pytest.raises(CheckpointError, match=r"models.b: .*tie_word_embeddings is False, but True in"):
        ParameterEngine(config)
