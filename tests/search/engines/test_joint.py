"""The joint engine over real folders: a merge and a path through it are scored, written and made again as one model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from damage import change_json, change_tensors, change_yaml
from on_disk import assert_same_texts, history, likelihoods, tensors
from tiny_world import OBJECTIVES, write_world
from transformers import AutoModelForCausalLM

from jaxmerge.documents import Document, write_documents
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.evolution import evolve
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.report.genomes import gene_names
from jaxmerge.report.run_data import read_run
from jaxmerge.runtime.compilations import counted
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.joint import JointEngine
from jaxmerge.search.resolved import read_config

WEIGHT = [-0.3, 1.8]
SPACE = {
    "kind": "joint",
    "operator": "dare_ties",
    "granularity": "model",
    "parameters": {"weight": WEIGHT, "density": [0.2, 1.0]},
    "repeats": 2,
    "max_hops": 12,
}
PLAIN = SPACE | {"operator": "task_arithmetic", "granularity": "layer", "parameters": {"weight": WEIGHT}}


def engine_of(path: Path) -> JointEngine:
    engine = JointEngine(read_config(path))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), space=SPACE, objectives=OBJECTIVES)


@pytest.fixture(scope="module")
def engine(world: Path) -> JointEngine:
    return engine_of(world)


def test_a_genome_is_that_of_both_spaces(engine: JointEngine) -> None:
    # Two weights, two densities; nine layers twice and a scale for each place.
    assert engine.dimension == 2 + 2 + 2 * (2 * 9) == len(engine.positions) == len(engine._joint.genes)
    assert engine._joint.genes[0] == "weight[a] model" and engine._joint.genes[-1] == "scale merged.2 (2)"


def test_transformers_gives_the_recorded_score_and_the_same_text(
    engine: JointEngine, genome: np.ndarray, exported: Path
) -> None:
    places = engine._route(genome).layers
    assert json.loads((exported / "config.json").read_text())["num_hidden_layers"] == len(places) > 5
    assert {place // 3 for place in places.tolist()} == {0, 1, 2}
    measured = engine.measure(genome, "test").examples["copy"]
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    copy, say = engine.objectives
    assert isinstance(copy, PreparedObjective) and isinstance(say, PreparedObjective)
    np.testing.assert_allclose(likelihoods(model, copy), measured, atol=1e-4)
    prompts = say.split("test").select(say.config, None).prompts
    assert_same_texts(model, say, engine._candidates(genome[None]).generate(prompts, 6, say.tokenizer.eos_ids)[0])


def test_the_recipe_of_two_merges_gives_the_model_again(
    engine: JointEngine, genome: np.ndarray, exported: Path, tmp_path: Path
) -> None:
    file = tmp_path / "best.yaml"
    file.write_text(write_documents([*engine.ingredients(genome), engine.recipe(genome)]))
    first, last = Document.read_all(file)
    assert first.data["name"] == "merged" and first.data["out_dtype"] == "float32"
    assert first.data["jaxmerge"]["seed"] == 1 and last.data["jaxmerge"]["path"][0] == "merged.0"
    merge(file, tmp_path / "again")
    again, before = tensors(tmp_path / "again"), tensors(exported)
    assert again.keys() == before.keys()
    for name, tensor in before.items():
        assert again[name].tobytes() == tensor.tobytes(), name
    assert (tmp_path / "again" / "config.json").read_bytes() == (exported / "config.json").read_bytes()


@pytest.mark.parametrize("input", ["merged", "a"])
def test_in_bfloat16_what_is_scored_is_what_is_written(input: str, world: Path, tmp_path: Path) -> None:
    space = PLAIN | {"input": input, "repeats": 1, "scales": "pair"}
    path = write_world(tmp_path, space=space, objectives=OBJECTIVES[:1], runtime={"dtype": "bfloat16"})
    engine = engine_of(path)
    genome = np.random.default_rng(5).random(engine.dimension, np.float32)
    engine.export(genome, tmp_path / "model")
    written = tensors(tmp_path / "model")
    assert engine._programs is not None
    values = engine._candidates(genome[None])._values  # type: ignore[attr-defined]
    weights = engine._programs.population.candidate({name: jnp.asarray(array[0]) for name, array in values.items()})
    for hop in range(int(values["depth"][0])):
        for name, array in weights.layer(jnp.int32(hop)).items():
            np.testing.assert_array_equal(array, written[f"model.layers.{hop}.{name}"], err_msg=f"{hop} {name}")
    for name in ("embed_tokens.weight", "norm.weight"):
        np.testing.assert_array_equal(weights.whole(name), written[f"model.{name}"])


def test_a_path_without_the_merge_needs_no_second_document(tmp_path: Path) -> None:
    path = write_world(tmp_path, space=PLAIN | {"input": "b", "repeats": 1}, objectives=OBJECTIVES[:1])
    engine = engine_of(path)
    genome = engine.start(None)
    assert genome is not None and engine.ingredients(genome)
    genome[engine._joint.parameter.dimension :][:9] = 0
    assert engine.ingredients(genome) == [] and engine.recipe(genome)["jaxmerge"]["path"] == ["b.0", "b.2"]
    engine.export(genome, tmp_path / "model")
    assert engine.evaluate(genome[None])[0].score is not None


def test_all_lengths_are_scored_by_one_compilation(engine: JointEngine) -> None:
    genomes = np.tile(engine.start(None), (9, 1))  # type: ignore[arg-type]
    slots = genomes[:, engine._joint.parameter.dimension :]
    for number, row in enumerate(slots):
        row[:number] = 0.9
    engine.evaluate(genomes[:1])
    with counted() as compilations:
        results = engine.evaluate(genomes)
    assert compilations.count == 0
    assert len({len(engine._route(genome).layers) for genome in genomes}) > 5
    assert len({result.scores["copy"] for result in results}) > 5


def test_the_search_starts_at_the_best_merges_own_layers(engine: JointEngine, tmp_path: Path) -> None:
    engine = engine_of(write_world(tmp_path, space=PLAIN, objectives=OBJECTIVES[:1]))
    assert [own.name for own in engine.starts][:2] == ["uniform", "task_arithmetic"]
    for own in engine.starts[:2]:
        start = engine.start(own)
        assert start is not None
        [same] = engine.evaluate(start[None])
        untuned = engine.measure(own, "search").result
        assert same.scores["copy"] == pytest.approx(untuned.scores["copy"], abs=1e-5)
    assert engine.start(Untuned("ties", "ties", ("a", "b"), {"weight": 1.0})) is None
    recipe = engine._part.recipe(engine._merger.assignment(own), "float32")
    (tmp_path / "start.yaml").write_text(write_documents([recipe]))
    np.testing.assert_allclose(engine.start(tmp_path / "start.yaml"), start, atol=1e-6)


def test_gradients_are_those_of_merge_and_gates(tmp_path: Path) -> None:
    path = write_world(tmp_path, space=PLAIN | {"repeats": 1, "granularity": "model"}, objectives=OBJECTIVES[:1])
    change_yaml(path, "search", "warm_start", value={"steps": 2})
    engine = engine_of(path)
    start = engine.start(engine.starts[0])
    assert start is not None
    relaxed = engine.relaxed(start)
    np.testing.assert_array_equal(relaxed[:2], start[:2])
    [found] = engine.gradients(relaxed[None])
    assert found.gradient is not None and found.score is not None
    for gene in (0, 1, 3, 8):
        moved = np.tile(relaxed, (2, 1))
        moved[0, gene] -= 0.02
        moved[1, gene] += 0.02
        below, above = (result.score for result in engine.gradients(moved))
        assert below is not None and above is not None
        assert found.gradient[gene] == pytest.approx((above - below) / 0.04, rel=0.05, abs=2e-3), gene
    assert not found.gradient[2 + 9 :].any() and found.gradient[:11].all()


def test_an_extended_run_is_that_of_one_go_on_two_devices(tmp_path: Path) -> None:
    search = {"generations": 2, "baselines": ["uniform"], "algorithm": "catcmawm"}
    path = write_world(tmp_path, space=PLAIN | {"repeats": 1}, objectives=OBJECTIVES[:1], search=search)
    for generations in (1, 2):
        run = evolve(path, tmp_path / "run", overrides=[f"search.generations={generations}"])
    command = [sys.executable, "-P", "-m", "jaxmerge", "evolve", str(path), str(tmp_path / "both")]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert history(tmp_path / "both") == history(tmp_path / "run")
    assert json.loads((tmp_path / "both" / "summary.json").read_text())["devices"].startswith("2 x")
    slots = np.array([row["genome"] for row in history(tmp_path / "run") if row["stage"] == "joint"])[:, 10:19]
    assert set(np.unique(slots)) == {0.0, 1.0}
    assert (tmp_path / "both" / "best.yaml").read_text() == (tmp_path / "run" / "best.yaml").read_text()

    assert run.summary["start"] == "uniform"
    assert {row["stage"] for row in history(tmp_path / "run")} == {"joint_start", "joint"}
    assert {"path", "scales", "pool", "parameters", "scores"} <= run.best["jaxmerge"].keys()
    merge(tmp_path / "run" / "best.yaml", tmp_path / "again")
    again, model = tensors(tmp_path / "again"), tensors(tmp_path / "run" / "model")
    assert all(again[name].tobytes() == tensor.tobytes() for name, tensor in model.items())
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "task_arithmetic and data flow of a, b, evolved" in card and "- space: a merge and a data flow" in card
    read = read_run(tmp_path / "run")
    names = gene_names(read.config, read.recipe, read.pool)
    assert names[0] == "weight[a] emb" and names[-1] == "scale merged.2"
    assert len(names) == len(read.history[0].genomes[0])
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Path of the data flow" in report and "weight by expert and group" in report


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": PLAIN | {"input": "mrged"}}, "there is no model 'mrged'; name one of a, b, merged"),
        ({"space": PLAIN | {"parameters": {}}}, r"space.parameters: nothing is searched"),
        ({"space": PLAIN | {"scale": [-1, 1]}}, r"contains 0"),
        ({"models": {"a": "models/a", "merged": "models/b"}, "space": PLAIN}, "'merged' is the name of a joint"),
        ({"models": {"a": "models/a", "b": "models/base"}, "space": PLAIN}, "is the base itself"),
    ],
)
def test_bad_input_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_world(tmp_path)
    for key, value in changes.items():
        change_yaml(path, key, value=value)
    with pytest.raises(InputError, match=message) as failed:
        plan(path)
    assert "\n" not in str(failed.value)


def test_models_that_cannot_be_merged_or_mixed_are_refused(tmp_path: Path) -> None:
    path, lacking = write_world(tmp_path, space=PLAIN), tmp_path / "models" / "b"
    change_json(lacking / "config.json", rms_norm_eps=1e-3)
    with pytest.raises(CheckpointError, match=r"models.b: .*rms_norm_eps is 0.001, but 1e-05"):
        plan(path)
    change_json(lacking / "config.json", rms_norm_eps=1e-5, num_hidden_layers=2)
    change_tensors(lacking, lambda t: [t.pop(name) for name in list(t) if ".layers.2." in name])
    with pytest.raises(CheckpointError, match=r"models.b: .*num_hidden_layers is 2, but 3"):
        plan(path)


def test_a_dry_run_tells_of_both_spaces(world: Path) -> None:
    lines = plan(world)
    assert lines["space"] == "dare_ties and data flow, 40 dimensions"
    assert "(a 3, b 3, merged 3)" in lines["models"] and "MiB for its merge" in lines["candidate"]
