"""The engine over real folders of different depth: what it scores is an ordinary model that it exports."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from damage import change_json, change_tensors, change_yaml
from on_disk import assert_same_texts, history, likelihoods, tensors
from safetensors.numpy import save_file
from tiny_world import OBJECTIVES, write_examples, write_world
from transformers import AutoModelForCausalLM

from jaxmerge.architectures.registry import ARCHITECTURES
from jaxmerge.documents import write_yaml
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.evolution import evolve
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.population.routed import Routing
from jaxmerge.runtime.compilations import counted
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.dataflow import DataflowEngine
from jaxmerge.search.engines.plan import bank_bytes
from jaxmerge.search.evolve import algorithm_of
from jaxmerge.search.resolved import read_config

SPACE = {"kind": "dataflow", "repeats": 4, "max_hops": 24}


def write_pool(root: Path, space: dict[str, Any] = SPACE, **changes: Any) -> Path:
    """A model of three layers and one of two, and no base."""
    path = write_world(root, space=space, **changes)
    change_yaml(path, "base", value=None)
    lacking = root / "models" / "b"
    change_json(lacking / "config.json", num_hidden_layers=2)
    change_tensors(lacking, lambda t: [t.pop(name) for name in list(t) if ".layers.2." in name])
    return path


def engine_of(path: Path) -> DataflowEngine:
    engine = DataflowEngine(read_config(path))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DataflowEngine:
    path = write_pool(tmp_path_factory.mktemp("pool"), objectives=OBJECTIVES)
    write_examples(path.with_name("test.jsonl"), np.random.default_rng(6), 64)
    return engine_of(path)


def test_transformers_gives_the_recorded_score_and_the_same_text(
    engine: DataflowEngine, genome: np.ndarray, exported: Path
) -> None:
    route = engine._space.route(genome)
    config = json.loads((exported / "config.json").read_text())
    assert config["num_hidden_layers"] == len(route.layers) > 5 and "auto_map" not in config
    assert len(set(route.layers.tolist())) < len(route.layers) and np.ptp(route.scales) > 0.5
    measured = engine.measure(genome, "test").examples["copy"]
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    assert type(model).__name__ == "LlamaForCausalLM"
    copy, say = engine.objectives
    assert isinstance(copy, PreparedObjective) and isinstance(say, PreparedObjective)
    np.testing.assert_allclose(likelihoods(model, copy), measured, atol=1e-4)
    prompts = say.split("test").select(say.config, None).prompts
    written = engine._candidates(genome[None]).generate(prompts, 6, say.tokenizer.eos_ids)[0]
    assert_same_texts(model, say, written)


def test_the_recipe_gives_the_model_again_and_both_are_what_was_scored(
    engine: DataflowEngine, genome: np.ndarray, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "best.yaml").write_text(write_yaml(engine.recipe(genome)))
    merge(tmp_path / "best.yaml", tmp_path / "merged")
    again, first = tensors(tmp_path / "merged"), tensors(exported)
    assert again.keys() == first.keys()
    assert (tmp_path / "merged" / "config.json").read_bytes() == (exported / "config.json").read_bytes()
    for name, tensor in first.items():
        assert again[name].tobytes() == tensor.tobytes(), name
    assert engine._programs is not None and isinstance(engine._programs.population, Routing)
    values = {name: jnp.asarray(array[0]) for name, array in engine._space.decode(genome[None]).items()}
    path = engine._programs.population.candidate(values)
    for hop in range(int(values["depth"])):
        for name, array in path.layer(jnp.int32(hop)).items():
            np.testing.assert_array_equal(array, first[f"model.layers.{hop}.{name}"], err_msg=f"{hop} {name}")
    for name in ("embed_tokens.weight", "norm.weight"):
        np.testing.assert_array_equal(path.whole(name), first[f"model.{name}"])


FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({"attention_bias": True, "mlp_bias": True},) * 2,
    "mistral": ({"sliding_window": 4},) * 2,
    "qwen2": (
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen3": ({"head_dim": 8, "attention_bias": True},) * 2,
    "gemma": ({"head_dim": 8, "hidden_act": "gelu_pytorch_tanh"},) * 2,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_of_every_family_is_what_transformers_runs(family: str, tmp_path: Path) -> None:
    path = write_pool(tmp_path, SPACE | {"repeats": 2}, objectives=OBJECTIVES[:1], tokenizer="models/base")
    rng = np.random.default_rng(3)
    for name, depth, changes in zip("ab", (3, 2), FAMILIES[family], strict=True):
        file = tmp_path / "models" / name / "config.json"
        change_json(file, model_type=family, architectures=None, **changes)
        architecture = ARCHITECTURES[family]
        table = architecture.table(architecture.read(json.loads(file.read_text())))
        made = {n: rng.normal(0, 0.3, p.shape).astype(np.float32) for p in table for n in p.names(depth)}
        save_file(made, tmp_path / "models" / name / "model.safetensors", metadata={"format": "pt"})
    engine = engine_of(path)
    genome = engine.start(None)
    assert genome is not None
    genome[[0, 1, 2, 3, 4, 6]] = 0.8
    genome[engine._space.slots :] = rng.random(engine._space.slots, np.float32)
    engine.export(genome, tmp_path / "exported")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.float32).eval()
    [copy] = engine.objectives
    assert isinstance(copy, PreparedObjective) and model.config.num_hidden_layers == 8
    np.testing.assert_allclose(likelihoods(model, copy), engine.measure(genome, "test").examples["copy"], atol=1e-4)
    if family == "qwen2":
        kinds = [kind == "sliding_attention" for kind in model.config.layer_types]
        assert kinds == [False, False, True, True, True, False, True, True]


def test_twenty_lengths_are_scored_by_one_compilation(engine: DataflowEngine) -> None:
    genomes = np.tile(engine.start(None), (20, 1))  # type: ignore[arg-type]
    for number, genome in enumerate(genomes):
        genome[:number] = 0.9
    engine.evaluate(genomes[:1])
    with counted() as compilations:
        results = engine.evaluate(genomes)
    assert compilations.count == 0
    assert [len(engine._space.route(genome).layers) for genome in genomes] == list(range(2, 22))
    assert len({result.scores["copy"] for result in results}) == 20


def test_the_search_starts_at_the_input_model(engine: DataflowEngine) -> None:
    (own,) = engine.starts
    start = engine.start(own)
    assert start is not None and own == Untuned("a", None, ("a",))
    [same] = engine.evaluate(start[None])
    parent = engine.measure(own, "search").result
    assert same.scores["copy"] == pytest.approx(parent.scores["copy"], abs=1e-5)
    other = engine.measure(Untuned("b", None, ("b",)), "search").result
    assert other.score is not None and other.scores["copy"] != parent.scores["copy"]
    with pytest.raises(InputError, match="starts at baseline or center"):
        engine.start(Path("start.yaml"))


def test_models_that_cannot_be_merged_have_no_untuned_merges(engine: DataflowEngine, tmp_path: Path) -> None:
    assert engine.baselines == ()
    path = write_pool(tmp_path, search={"baselines": ["uniform"]})
    with pytest.raises(InputError, match=r"search\.baselines: uniform cannot merge these models: .*num_hidden_layers"):
        plan(path)


def test_models_of_one_layout_have_them(tmp_path: Path) -> None:
    engine = engine_of(write_world(tmp_path, space=SPACE | {"repeats": 1}))
    assert [merge.name for merge in engine.baselines][:2] == ["uniform", "task_arithmetic"]
    result = engine.measure(engine.baselines[0], "test").result
    base = engine.measure(Untuned("base", None, ("base",)), "test").result
    assert result.score is not None and base.score is not None and result.score != base.score


def test_a_parent_reads_with_its_own_tokenizer(tmp_path: Path) -> None:
    """Model b's tokenizer numbers the words the other way round, and so do its rows: it finds the same texts likely."""
    path = write_pool(tmp_path, objectives=OBJECTIVES[:1])
    before = engine_of(path).measure(Untuned("b", None, ("b",)), "test").result
    file = tmp_path / "models" / "b" / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    size = len(words)
    content["model"]["vocab"] = {w: i if i < 4 else size + 3 - i for w, i in words.items()}
    file.write_text(json.dumps(content))
    order = [*range(4), *range(size - 1, 3, -1)]
    embedding = "model.embed_tokens.weight"
    change_tensors(tmp_path / "models" / "b", lambda t: t.update({embedding: t[embedding][order].copy()}))
    after = engine_of(path).measure(Untuned("b", None, ("b",)), "test").result
    assert after.score == pytest.approx(before.score, abs=1e-5)


def test_an_extended_run_is_that_of_one_go_and_that_of_two_devices(tmp_path: Path) -> None:
    path = write_pool(tmp_path, objectives=OBJECTIVES[:1])
    for out, generations in (("one", 3), ("two", 1), ("two", 3)):
        run = evolve(path, tmp_path / out, overrides=[f"search.generations={generations}"])
    assert history(tmp_path / "one") == history(tmp_path / "two")
    assert (tmp_path / "one" / "best.yaml").read_text() == (tmp_path / "two" / "best.yaml").read_text()
    assert {row["stage"] for row in history(tmp_path / "one")} == {"dataflow_start", "dataflow", "random_search"}
    # The input model is among the candidates.
    (opening,) = [row for row in history(tmp_path / "one") if row["stage"] == "dataflow_start"]
    own = run.summary["baselines"]["a"]["search_score"]
    assert opening["score"] == pytest.approx(own, abs=1e-5)
    assert list(run.summary["baselines"]) == ["a", "b", "random_search"] and run.summary["start"] == "a"
    assert run.best["jaxmerge"]["path"][0] == "a.0" and run.best["jaxmerge"]["path"][-1] == "a.2"
    sharing = run.best["jaxmerge"]["sharing"]
    assert sharing["layers"] == len(run.best["slices"])
    card = (tmp_path / "two" / "model" / "README.md").read_text()
    assert f"Of its {sharing['layers']} layers {sharing['unique_layers']} are different" in card
    assert "- space: data flow" in card and run.best["jaxmerge"]["pool"] == {"a": 3, "b": 2}
    # The report names the genes it draws.
    assert re.search(r"(include|scale) [ab]\.\d", (tmp_path / "two" / "report.html").read_text())
    run.export(tmp_path / "worst", (0, 1))
    assert (tmp_path / "worst" / "model.safetensors").exists()

    command = [sys.executable, "-P", "-m", "jaxmerge", "evolve", str(path), str(tmp_path / "both")]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert history(tmp_path / "both") == history(tmp_path / "one")
    assert json.loads((tmp_path / "both" / "summary.json").read_text())["devices"].startswith("2 x")


def test_what_a_parameter_stage_finds_is_a_part_of_the_pool(tmp_path: Path) -> None:
    merged = {"operator": "task_arithmetic", "parameters": {"weight": [-0.3, 1.8]}}
    stages = [{"space": merged}, {"space": SPACE | {"repeats": 1, "input": "parameter"}}]
    path = write_world(tmp_path, stages=stages, search={"generations": 1, "baselines": []})
    change_yaml(path, "space", value=None)
    text = "".join(line for line in path.read_text().splitlines(True) if not line.startswith("space:"))
    path.write_text(text)
    assert "(a 3, b 3, parameter 3)" in plan(path)["dataflow: models"]
    run = evolve(path, tmp_path / "run")
    best = run.best
    assert best["jaxmerge"]["path"][0] == "parameter.0" and best["jaxmerge"]["experts"] == ["a", "b", "parameter"]
    first = tensors(tmp_path / "run" / "stages" / "parameter" / "model")
    last = tensors(tmp_path / "run" / "model")
    np.testing.assert_array_equal(last["model.embed_tokens.weight"], first["model.embed_tokens.weight"])
    assert {row["stage"] for row in history(tmp_path / "run")} == {"parameter", "dataflow_start", "dataflow"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": 5e5}, "the rotary embedding differs from that"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps is 0.001, but 1e-05"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu, but silu"),
        ({"model_type": "mistral", "sliding_window": 4}, "attention windows"),
    ],
)
def test_models_whose_blocks_differ_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_pool(tmp_path)
    change_json(tmp_path / "models" / "b" / "config.json", **changes)
    with pytest.raises(CheckpointError, match=r"models\.b: ") as failed:
        plan(path)
    assert message in str(failed.value) and "\n" not in str(failed.value)


def test_an_architecture_that_cannot_be_folded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pool(tmp_path)
    llama = replace(ARCHITECTURES["llama"], unfoldable="its blocks end in a norm")
    monkeypatch.setitem(ARCHITECTURES, "llama", llama)
    with pytest.raises(CheckpointError, match=r"models\.a: .* its blocks end in a norm; take another model"):
        plan(path)


def test_an_input_of_one_layer_is_refused(tmp_path: Path) -> None:
    """Its layer would be the first and the last of every path, and run twice."""
    path = write_pool(tmp_path)
    change_json(tmp_path / "models" / "a" / "config.json", num_hidden_layers=1)
    change_tensors(tmp_path / "models" / "a", lambda t: [t.pop(n) for n in list(t) if re.search(r"layers\.[12]\.", n)])
    with pytest.raises(CheckpointError, match=r"models\.a: .* has one layer.* take another model as space\.input"):
        plan(path)
    change_yaml(path, "space", "input", value="b")
    assert "(a 1, b 2)" in plan(path)["models"]


def test_center_includes_no_slot_where_switches_are_drawn_as_such(tmp_path: Path) -> None:
    config = read_config(write_pool(tmp_path, search={"algorithm": "catcmawm", "start": "center"}))
    engine = DataflowEngine(config)
    start = engine.start(None)
    assert start is not None and engine._space.route(start).layers.tolist() == [0, 2]
    made = algorithm_of(config, engine)
    state = made.init(jax.random.key(0), start)
    drawn = np.concatenate([made.ask(jax.random.key(i), 0, state)[0] for i in range(50)])[:, engine.binary]
    assert drawn.mean() == pytest.approx(1 - 0.73 ** (1 / len(engine.binary)), abs=0.01)  # the margin


def test_gradient_steps_start_at_the_input_whatever_the_start(tmp_path: Path) -> None:
    search = {"start": "center", "warm_start": {"kind": "gradient", "steps": 1}, "generations": 1, "baselines": []}
    run = evolve(write_pool(tmp_path, space=SPACE | {"repeats": 1}, search=search), tmp_path / "run")
    assert run.summary["start"] == "a, then 1 gradient steps"


def test_a_dry_run_tells_of_the_bank_of_untuned_merges(tmp_path: Path) -> None:
    """A merge reads all models, and the base, beside the pool."""
    engine = DataflowEngine(read_config(write_world(tmp_path / "one", space=SPACE)))
    whole = bank_bytes(engine._models.one_layout(), None)
    assert f"{whole / 2**20:,.1f} MiB more while an untuned merge is made" in engine.plan()["bank"]
    assert "more" not in plan(write_pool(tmp_path / "two"))["bank"]


def test_a_dry_run_tells_hops_dimension_and_memory(tmp_path: Path) -> None:
    lines = plan(write_pool(tmp_path))
    assert lines["space"] == "data flow, 40 dimensions"
    assert lines["hops"] == "2 to 22 layers, chosen from 20 slots; scales: hop"
    assert lines["bank"].endswith("MiB on each of 1 devices") and "(a 3, b 2)" in lines["models"]
