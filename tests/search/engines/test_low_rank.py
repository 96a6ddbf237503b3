"""Searches along random low-rank directions around a model: the model itself is among them, and nothing is lost between
what is scored, what is exported and what the recipe makes again."""

import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from lora_folder import product, write_lora
from miniature import CONFIG, checkpoints
from on_disk import history, tensors
from tiny_world import write_model, write_world

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.directions import Directions
from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document
from jaxmerge.errors import InputError, Interrupted
from jaxmerge.evolution import evolve
from jaxmerge.merging.merge import merge
from jaxmerge.recipe.renaming import references_in
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.low_rank import LowRankEngine
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import read_config
from jaxmerge.search.run import Run
from jaxmerge.spaces.groups import Granularity, Groups

PARTS = ("mlp.up_proj", "self_attn.k_proj")
MATRICES = tuple(f"model.layers.{layer}.{part}.weight" for layer in range(3) for part in PARTS)
SPACE = {"kind": "low_rank", "directions": 3, "rank": 2}
STAGES = [
    {
        "name": "coarse",
        "space": {"operator": "task_arithmetic", "granularity": "model", "parameters": {"weight": [-0.3, 1.8]}},
        "search": {"generations": 1},
    },
    {"name": "near", "space": SPACE, "search": {"generations": 2}},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("low_rank") / "home"
    write_world(root, space=SPACE | {"around": "a"})
    return root


@pytest.fixture(scope="module")
def engine(world: Path) -> LowRankEngine:
    found = LowRankEngine(read_config(world / "evolve.yaml"))
    found.load()
    return found


@pytest.fixture(scope="module")
def run(world: Path) -> Run:
    return evolve(staged(world), world / "run")


def staged(world: Path) -> dict[str, Any]:
    data = dict(Document.read(world / "evolve.yaml").data)
    del data["space"]
    data["models"] = {name: str(world / ref) for name, ref in data["models"].items()}
    data["base"] = str(world / data["base"])
    data["objectives"] = [
        objective | {"data": {split: str(world / file) for split, file in objective["data"].items()}}
        for objective in data["objectives"]
    ]
    return data | {"stages": STAGES, "search": {**data["search"], "baselines": []}}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("rank", [1, 3, 16])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_direction_has_its_length_and_reads_the_same_from_its_files(rank: int, dtype: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "model", checkpoints(dtype)[0])
    model = Checkpoint.open(tmp_path / "model")
    directions = Directions(model, MATRICES, rank, 0.25, (5, 6))
    one, other = directions.reading(0, "one"), directions.reading(1, "other")
    (tmp_path / "lora").mkdir()
    directions.write(0, tmp_path / "lora", str(model.folder))
    written = open_checkpoint(Location(model.folder, tmp_path / "lora"))
    for name in model.tensors:
        was, now = model.read(name).astype(np.float64), one.read(name).astype(np.float64)
        assert one.read(name).tobytes() == written.read(name).tobytes()
        if name not in MATRICES:
            assert np.array_equal(was, now)
            continue
        added = now - was
        size = np.sqrt(np.mean(added**2) / np.mean(was**2))
        assert size == pytest.approx(0.25, rel=0.5 if rank > 1 else 0.02)
        if dtype == np.float32:
            assert np.linalg.matrix_rank(added, tol=1e-4) == min(rank, *was.shape)
        assert not np.array_equal(one.read(name), other.read(name))
    again = Directions(model, MATRICES, rank, 0.25, (5, 7)).reading(0, "one")
    assert not np.array_equal(one.read(MATRICES[0]), again.read(MATRICES[0]))


@pytest.mark.parametrize("rank", [3, 5, 16])
def test_what_a_direction_adds_is_exact_in_every_order(rank: int, world: Path) -> None:
    directions = Directions(Checkpoint.open(world / "models" / "a"), MATRICES, rank, 0.1, (1,))
    factors = directions.reading(0, "one").products[MATRICES[0]]
    a, b = factors.a.read(), factors.b.read()
    order = np.random.default_rng(0).permutation(rank)
    assert np.array_equal(b @ a, b.astype(np.float64) @ a) and np.array_equal(b @ a, b[:, order] @ a[order])


def test_the_start_is_the_model_itself_bit_for_bit(engine: LowRankEngine, world: Path, tmp_path: Path) -> None:
    start = engine.start(engine.starts[0])
    assert start is not None and np.array_equal(engine.start(None), start)
    engine.export(start, tmp_path / "start")
    assert same(tensors(tmp_path / "start"), tensors(world / "models" / "a"))


def test_genes_are_those_of_layers_alone(engine: LowRankEngine) -> None:
    architecture = architecture_of(CONFIG)
    table = architecture.table(architecture.read(CONFIG))
    assert engine.dimension == 3 * CONFIG["num_hidden_layers"]
    halves = Groups.of_blocks(table, Granularity.parse({"block": 2, "filters": ["mlp"]}))
    assert halves.names == ("layers.0-1.other", "layers.0-1.mlp", "layers.2.other", "layers.2.mlp")
    assert halves.members["embed_tokens.weight"] == 0 and halves.members["norm.weight"] == 3
    assert Groups.of_blocks(table, Granularity.parse("model")).names == ("model",)


def test_the_recipe_makes_the_model_again_wherever_the_run_lies(run: Run, world: Path, tmp_path: Path) -> None:
    """Also when the run's folder was moved alone, so that nothing is left at the paths that the recipe names."""
    assert run.summary["start"] == "coarse" and run.summary["baselines"]["coarse"]["test_score"] is not None
    scores: dict[str, set[float]] = {}
    for line in history(run.folder):
        scores.setdefault(line["stage"], set()).add(line["score"])
    assert list(scores) == ["coarse", "near", "near_start"] and len(scores["near"]) == 8
    assert scores["near_start"].pop() == pytest.approx(run.summary["baselines"]["coarse"]["search_score"], abs=1e-6)
    ours = tensors(run.folder / "model")
    near, coarse = run.folder / "adapters", run.folder / "stages" / "coarse" / "model"
    names = [f"direction_{index}" for index in range(3)]
    assert references_in(run.best) == (str(coarse), *(f"{coarse}+{near / name}" for name in names))
    assert run.best["jaxmerge"]["directions"] == {"around": "coarse", "rank": 2, "reach": 0.05}
    moved = tmp_path / "moved"
    shutil.copytree(run.folder, moved)
    aside = run.folder.rename(world / "aside")
    try:
        assert same(ours, tensors(merge(moved / "best.yaml", tmp_path / "merged")))
        assert same(ours, tensors(Run(moved).export(tmp_path / "exported")))
    finally:
        aside.rename(run.folder)


def test_candidates_that_are_scored_with_factors_alone_score_as_merged_ones(run: Run) -> None:
    assert (run.folder / "log" / "run.log").read_text().count("LoRAs that are not applied") == 1
    merged = LowRankEngine(run.config.running(forward="merged", chunk=1))
    merged.load()
    first = run.history.stage("near")[0]
    scores = [result.score for result in merged.evaluate(first.genomes)]
    assert scores == pytest.approx([result.score for result in first.results], abs=2e-6) and len(set(scores)) == 4


def test_an_interrupted_search_finds_the_same_directions(run: Run, world: Path) -> None:
    def interrupt(event: Progress) -> None:
        if event.stage == "near" and event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        evolve(staged(world), world / "cut", progress=interrupt)
    assert not (world / "cut" / "adapters").exists()
    again = evolve(staged(world), world / "cut")
    assert history(again.folder) == history(run.folder)
    assert same(tensors(again.folder / "model"), tensors(run.folder / "model"))
    assert again.best["models"][0]["parameters"] == run.best["models"][0]["parameters"]


def test_a_dry_run_writes_nothing(world: Path) -> None:
    before = sorted(world.rglob("*"))
    lines = plan(staged(world))
    assert sorted(world.rglob("*")) == before
    assert lines["near: space"] == "low-rank directions, 9 dimensions"
    assert "base + 6 x" in lines["near: memory"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["space.around=c"], r"space.around.*no model 'c'; name one of a, b, base"),
        (["space.rank=0"], "space.rank"),
        (["space.rank=5000"], "space.rank"),
        (["space.reach=0"], "space.reach"),
        (["space.operator=ties"], "space.operator.*belongs to space.kind: parameter"),
        (["space.around=null", "base=null"], "space.around.*there is no base; name one of a, b"),
    ],
)
def test_a_space_that_cannot_be_is_refused(overrides: list[str], message: str, world: Path) -> None:
    with pytest.raises(InputError, match=message):
        Document.read(world / "evolve.yaml").override(overrides).validate(EvolveConfig)


def test_what_has_a_lora_already_and_a_recipe_as_start_are_refused(engine: LowRankEngine, world: Path) -> None:
    shape = (CONFIG["intermediate_size"], CONFIG["hidden_size"])
    write_lora(world / "lora", product("model.layers.1.mlp.up_proj", shape), base_model_name_or_path="a")
    with pytest.raises(InputError, match=r"space.around: .*a\+.*lora has a LoRA already"):
        LowRankEngine(read_config(world / "evolve.yaml", ["models.a=models/a+lora"]))
    with pytest.raises(InputError, match=r"search.start: x.yaml: a low-rank search starts at the model"):
        engine.start(Path("x.yaml"))
