"""`runtime.forward`: candidates scored as one batch score what they are exported as, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_folder import product, write_lora
from tiny_world import OBJECTIVES, write_world

import jaxmerge
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.population.from_files import FilePrograms
from jaxmerge.population.lora import Lora
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.forward import FLOPS_PER_BYTE, refusal
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.resolved import as_placed, on_any_mesh, read_config

LOW = "model.layers.2.mlp.down_proj"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LoRAs: one of lower rank in a module, one rank-stabilised, without a layer, and with a norm of its own."""
    root = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("a", "b")):
        parts: dict[str, np.ndarray] = {}
        for layer in range(3 - seed):
            parts |= product(f"model.layers.{layer}.self_attn.v_proj", (8, 16), seed=seed)
            down = f"model.layers.{layer}.mlp.down_proj"
            parts |= product(down, (16, 24), 2 if down == LOW else 4, seed=seed)
        if seed == 1:
            parts["base_model.model.model.norm.weight"] = np.full(16, 0.7, np.float32)
        own: dict[str, Any] = {"use_rslora": True, "modules_to_save": ["norm"]} if seed else {"rank_pattern": {LOW: 2}}
        write_lora(root / "loras" / name, parts, base_model_name_or_path="base", **own)
    refs = {name: f"models/base+loras/{name}" for name in ("a", "b")}
    write_world(root, models=refs, objectives=OBJECTIVES, runtime={"forward": "batched"})
    return root / "evolve.yaml"


def test_loras_that_are_not_applied_score_as_the_models_they_make(world: Path) -> None:
    engine = ParameterEngine(read_config(world))
    engine.load()
    assert isinstance(engine._programs, FilePrograms) and engine._approximate is not None
    assert isinstance(engine._approximate.population, Lora)
    assert set(engine._approximate.population.merging.bank.experts) == {"norm.weight"}
    genomes = np.random.default_rng(2).random((4, engine.dimension), dtype=np.float32)
    together, exact = engine.evaluate(genomes), engine.evaluate(genomes, exact=True)
    assert engine.approximates and len({result.score for result in exact}) == 4
    for one, other in zip(together, exact, strict=True):
        assert one.scores["copy"] == pytest.approx(other.scores["copy"], rel=1e-5)
        assert one.scores["say"] == other.scores["say"]
    measured = engine.measure(genomes[0], "search").result
    assert (measured.score, measured.scores) == (exact[0].score, exact[0].scores)


def records(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(world: Path, tmp_path: Path) -> None:
    changes = [f"objectives={json.dumps(OBJECTIVES[:1])}", "search.baselines=[uniform]", "search.population=4"]
    first = evolve(world, tmp_path / "first", overrides=[*changes, "search.generations=2"])
    second = evolve(world, tmp_path / "second", overrides=[*changes, "search.generations=1"])
    # What was chosen stays chosen, and is what the config asked for.
    assert (second.config.runtime.forward, second.config.runtime.chunk) == ("batched", 4)
    free = [*changes, "search.generations=2", "runtime.forward=auto"]
    second = evolve(world, tmp_path / "second", overrides=free)
    assert second.config.runtime.forward == "batched"
    histories = [records(tmp_path / name) for name in ("first", "second")]
    assert histories[0] == histories[1] and len(histories[0]) == 8
    for name in ("model/model.safetensors", "best.yaml"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    # What is told of the winner is what is exported.
    objectives = Document.read(tmp_path / "first" / "config.yaml").data["objectives"]
    exported = jaxmerge.evaluate(tmp_path / "first" / "model", objectives, split="search")
    assert first.summary["best_score"] == pytest.approx(exported.score, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"space": {"operator": "ties"}}, "ties is not linear in its sources"),
        (
            {"space": {"operator": "nuslerp", "parameters": {"weight": [0.1, 1], "nuslerp_flatten": False}}},
            "nuslerp with nuslerp_flatten: false is not linear in whole tensors",
        ),
        ({"runtime": {"bank": "host"}}, "runtime.bank is host, and this needs device"),
    ],
)
def test_what_cannot_be_one_batch_is_refused(changes: dict[str, Any], why: str, world: Path) -> None:
    overrides = [f"{key}.{name}={json.dumps(value)}" for key, part in changes.items() for name, value in part.items()]
    with pytest.raises(InputError, match=rf"^runtime.forward: batched: {why}.*; write merged or auto$"):
        plan(world, overrides)


def test_nor_can_paths_be_or_a_candidate_on_several_devices(world: Path, tmp_path: Path) -> None:
    paths = write_world(tmp_path, space={"kind": "dataflow", "repeats": 1}, runtime={"forward": "batched"})
    with pytest.raises(InputError, match=r"runtime.forward: batched: needs space.kind parameter, not dataflow"):
        plan(paths)
    config = read_config(world, ["runtime.mesh={pop: 1, model: 2}"])
    assert refusal(config, config.operator) == (
        "runtime.mesh divides each candidate over 2 devices, and this needs model: 1"
    )


def test_auto_weighs_arithmetic_against_memory_traffic(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(*overrides: str) -> str:
        return plan(world, ["runtime.forward=auto", *overrides])["forward"]

    experts = ("models.a=models/a", "models.b=models/b")
    assert line().startswith("batched from a model and LoRAs that are not applied to it: for ")
    assert line(*experts).startswith("merged: for ")
    assert line("space.operator=ties") == "merged: ties is not linear in its sources"
    monkeypatch.setitem(FLOPS_PER_BYTE, "cpu", 500)
    assert line(*experts).startswith("batched: for ")


def test_devices_that_are_planned_for_have_a_forward_of_their_own(world: Path) -> None:
    stored, none = ["models.a=models/a", "models.b=models/b"], ["runtime.forward=auto"]
    here, there = plan(world, [*stored, *none]), plan(world, [*stored, *none], devices="v5e-1")
    assert here["forward"].startswith("merged: ") and there["forward"].startswith("batched: ")
    assert there["memory"] == plan(world, stored, devices="v5e-1")["memory"]
    assert there["memory"] != plan(world, [*stored, "runtime.forward=merged"], devices="v5e-1")["memory"]


@pytest.mark.parametrize(
    ("was", "chunk", "overrides", "forward", "kept"),
    [
        ("batched", 4, [], "batched", 4),
        # Recorded before there was a choice.
        ("auto", 2, [], "merged", 2),
        # Of runtime everything may change.
        ("batched", 4, ["runtime.bank=host"], "merged", "auto"),
        ("batched", 4, ["runtime.mesh={pop: 1, model: 2}"], "merged", "auto"),
        ("batched", 4, ["runtime.forward=merged"], "merged", "auto"),
    ],
)
def test_a_run_that_goes_on_elsewhere_has_its_forward_where_that_can_be(
    was: str, chunk: int, overrides: list[str], forward: str, kept: int | str, world: Path
) -> None:
    wanted = read_config(world, ["runtime.forward=auto", *overrides])
    placed = as_placed(wanted, wanted.running(forward=was, chunk=chunk)).runtime
    assert (placed.forward, placed.chunk) == (forward, kept)
    assert on_any_mesh(wanted.running(forward="batched")).runtime.forward == "auto"
