"""The engine over real folders: what it scores is what it exports, and the recipe gives it again."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_world import write_world

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.documents import write_yaml
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.single import SingleModel
from jaxmerge.objectives.weighted import score_all
from jaxmerge.operators import OPERATORS
from jaxmerge.search.algorithms.registry import RandomSearch
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.engines.plan import bank_bytes
from jaxmerge.search.resolved import read_config, resolve


def engine_of(path: Path) -> ParameterEngine:
    engine = ParameterEngine(read_config(path))
    engine.load()
    return engine


def tensors(folder: Path) -> dict[str, np.ndarray]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


SPACES = {
    "ties": {"weight": [-0.3, 1.8], "density": [0.1, 1.0], "lambda": [0.5, 1.5]},
    "dare_ties": {"weight": [-0.3, 1.8], "density": [0.1, 1.0]},
    "linear": {"weight": [0.1, 1.0]},
}


@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties"])
def test_the_exported_model_scores_what_was_recorded_and_the_recipe_gives_it_again(
    operator: str, tmp_path: Path
) -> None:
    path = write_world(tmp_path, space={"operator": operator, "parameters": SPACES[operator]})
    engine = engine_of(path)
    genome = np.random.default_rng(2).random(engine.dimension, dtype=np.float32)
    [recorded] = engine.evaluate(genome[None])
    engine.export(genome, tmp_path / "exported")

    exported = tensors(tmp_path / "exported")
    params = engine.parameters(genome)
    runner = SingleModel(params, engine._models.config, np.dtype(np.float32))
    again = score_all(engine.objectives, runner, "search")
    assert recorded.score is not None
    np.testing.assert_allclose(again.scores[0], recorded.score, atol=1e-5)
    np.testing.assert_array_equal(exported["model.norm.weight"], params["norm.weight"])

    recipe = engine.recipe(genome)
    (tmp_path / "best.yaml").write_text(write_yaml(recipe))
    merge(tmp_path / "best.yaml", tmp_path / "merged")
    merged = tensors(tmp_path / "merged")
    assert merged.keys() == exported.keys()
    for name, tensor in exported.items():
        np.testing.assert_array_equal(merged[name], tensor, err_msg=name)


def test_a_dry_run_knows_the_memory_of_the_bank(tmp_path: Path) -> None:
    """All sources, and what is prepared for every element of them."""
    engine = ParameterEngine(read_config(write_world(tmp_path)))
    table, merger = engine._models.table, engine._merger
    for name in ("ties", "dare_ties", "della", "consensus_ta", "model_stock", "cabs", "iso_c"):
        made = OPERATORS[name]
        grid = {p.name: np.array([float(p.default or 0.1)]) for p in made.parameters if p.gridded}
        merging = merger.merging(made, grid, engine._part.groups)
        prepared = [
            array.nbytes
            for parameter in table
            for arrays in merging.statistics.fields[parameter.path].values()
            for array in arrays
            if array.shape == table.shape(parameter)
        ]
        assert bank_bytes(engine._models, made) == merging.bank.nbytes + sum(prepared), name
        assert bool(prepared) == (name in ("della", "cabs", "iso_c"))


def test_untuned_merges_and_parents_are_measured(tmp_path: Path) -> None:
    engine = engine_of(write_world(tmp_path))
    parent = engine.measure(Untuned("a", None, ("a",)), "test")
    weights = np.tile([1.0, 0.0], (5, 1))
    same = engine.measure(engine._space.encode({"weight": weights}), "test")
    assert parent.examples["copy"].shape == (8,)
    np.testing.assert_allclose(parent.examples["copy"], same.examples["copy"], atol=1e-4)
    uniform = engine.measure(Untuned("uniform", "linear", ("a", "b"), {"weight": 1.0}), "search")
    assert uniform.result.score != parent.result.score


def test_the_start_expresses_untuned_merges_and_recipes(tmp_path: Path) -> None:
    engine = engine_of(write_world(tmp_path))
    third = engine.start(Untuned("task_arithmetic", "task_arithmetic", ("a", "b"), {"weight": 0.5}))
    assert third is not None
    np.testing.assert_allclose(engine._space.decode(third)["weight"], 0.5, atol=1e-6)
    assert engine.start(Untuned("ties", "ties", ("a", "b"), {"weight": 1.0})) is None
    genome = np.random.default_rng(2).random(engine.dimension, dtype=np.float32)
    (tmp_path / "start.yaml").write_text(write_yaml(engine.recipe(genome)))
    again = engine.start(tmp_path / "start.yaml")
    assert again is not None
    np.testing.assert_allclose(again, genome, atol=1e-6)


def test_a_recipe_of_another_operator_is_no_start(tmp_path: Path) -> None:
    engine = engine_of(write_world(tmp_path))
    other = engine.recipe(Untuned("ties", "ties", ("a", "b"), {"weight": 1.0}))
    (tmp_path / "ties.yaml").write_text(write_yaml(other))
    with pytest.raises(InputError, match="merges by ties"):
        engine.start(tmp_path / "ties.yaml")


FUNCTION = """\
def shaped(base, sources, weight: list = 1.0):
    if base.ndim == 1:
        return base
    return base + sum(w * (source - base) for w, source in zip(weight, sources))
"""


def test_a_function_gets_tensors_in_their_own_shape_in_search_and_merge(tmp_path: Path) -> None:
    (tmp_path / "shape_operator.py").write_text(FUNCTION)
    space = {"operator": "shape_operator:shaped", "parameters": {"weight": [0.1, 1.0]}}
    engine = engine_of(write_world(tmp_path, space=space))
    genome = np.random.default_rng(2).random(engine.dimension, dtype=np.float32)
    (tmp_path / "best.yaml").write_text(write_yaml(engine.recipe(genome)))
    merge(tmp_path / "best.yaml", tmp_path / "merged")
    engine.export(genome, tmp_path / "exported")
    merged, exported = tensors(tmp_path / "merged"), tensors(tmp_path / "exported")
    for name, tensor in exported.items():
        np.testing.assert_array_equal(merged[name], tensor, err_msg=name)
    base = tensors(tmp_path / "models" / "base")
    assert (merged["model.norm.weight"] == base["model.norm.weight"]).all()


@pytest.mark.parametrize(
    ("runtime", "output"), [("bfloat16", "float32"), ("bfloat16", "float16"), ("float16", "bfloat16")]
)
def test_an_output_dtype_that_would_round_twice_is_refused(runtime: str, output: str, tmp_path: Path) -> None:
    path = write_world(tmp_path, runtime={"dtype": runtime}, output={"dtype": output})
    with pytest.raises(InputError, match=rf"output\.dtype: {output} cannot hold what is scored in .* {runtime}"):
        ParameterEngine(read_config(path))


def test_the_base_among_the_experts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"models\.a: .* is the base itself"):
        ParameterEngine(read_config(write_world(tmp_path, models={"a": "models/base"})))


def test_an_expert_of_another_rope_is_warned_of(tmp_path: Path) -> None:
    path = write_world(tmp_path)
    file = tmp_path / "models" / "b" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rope_theta": 5e5}))
    with pytest.warns(UserWarning, match=r"models\.b: .* its rope differs"):
        ParameterEngine(read_config(path))


def test_a_tokenizer_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    path = write_world(tmp_path, tokenizer="tokenizer")
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "models" / "base" / name).rename(tmp_path / "tokenizer" / name)
    config = read_config(path)
    engine = ParameterEngine(config)
    resolved = resolve(config, engine, RandomSearch(4, engine.dimension))
    assert resolved.origin is not None and set(resolved.origin.models) == {"a", "b", "base"}


def test_models_of_different_depth_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    path = write_world(tmp_path)
    config = tmp_path / "models" / "b" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(CheckpointError, match=r"models\.b.*num_hidden_layers is 2, but 3"):
        engine_of(path)


def test_a_candidate_that_is_not_finite_fails_alone(tmp_path: Path) -> None:
    path = write_world(tmp_path, space={"parameters": {"weight": [0.0, 3e38], "lambda": [1.0, 1e30]}})
    engine = engine_of(path)
    genomes = np.stack([np.ones(engine.dimension), np.zeros(engine.dimension)]).astype(np.float32)
    bad, good = engine.evaluate(genomes)
    assert bad.score is None and bad.error
    assert good.score is not None and np.isfinite(good.score)


def test_the_seed_moves_random_masks_and_nothing_else(tmp_path: Path) -> None:
    space = {"operator": "dare_linear", "parameters": {"weight": [0.0, 1.0], "density": [0.2, 1.0]}}
    engines = [engine_of(write_world(tmp_path / str(seed), space=space, search={"seed": seed})) for seed in (1, 2)]
    genome = np.full(engines[0].dimension, 0.4, np.float32)
    one, other = (engine.parameters(genome)["layers.mlp.up_proj.weight"] for engine in engines)
    assert (np.asarray(one) != np.asarray(other)).any()
