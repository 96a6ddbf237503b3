"""The shipped configs, and the YAML and Python of the docs, are what they claim to be."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from miniature import CONFIG, InMemory
from safetensors.numpy import load_file
from tiny_world import write_model, write_world

from jaxmerge.architectures.registry import ARCHITECTURES, architecture_of
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.launch.kinds import KINDS
from jaxmerge.merging.experts.recipe import ExpertsRecipe
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.interface import Batch
from jaxmerge.objectives.loading import build
from jaxmerge.objectives.schema import Objectives
from jaxmerge.operators import merge_tensor, operator
from jaxmerge.plugins import importable
from jaxmerge.recipe.schema import Recipe
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.config import EvolveConfig, Output, Runtime, Search, StageConfig
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.resolved import read_config
from jaxmerge.search.space_config import Space
from jaxmerge.spaces.groups import Granularity
from jaxmerge.tokens.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "launch" / "README.md"]
PAGES += [file for file in [ROOT / "README.md"] if file.exists()]
SECTIONS = {"space": Space, "search": Search, "runtime": Runtime, "output": Output}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


SNIPPETS = [
    pytest.param(page, text, id=f"{page.stem}-{i}") for page in PAGES for i, text in enumerate(blocks(page, "yaml"))
]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder with the modules of docs/extending.md."""
    folder = tmp_path_factory.mktemp("own")
    for text in blocks(ROOT / "docs" / "extending.md", "python"):
        if name := re.match(r"# (\w+\.py)", text):
            (folder / name[1]).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def forgotten(own):
    yield
    for name in [file.stem for file in own.glob("*.py")]:
        sys.modules.pop(name, None)


def check(document: Document) -> Any:
    """Validates whatever a document is: a recipe, a config, objectives, or some sections of a config."""
    keys = set(document.data)
    if "kind" in keys:
        return document.validate(KINDS[document.data["kind"]])
    if "merge_method" in keys:
        return document.validate(Recipe)
    if "experts" in keys:
        return document.validate(ExpertsRecipe)
    if {"models", "objectives"} <= keys:
        config = document.validate(EvolveConfig)
        for space in (*(stage.space for stage in config.stages), config.space):
            Granularity.parse(space.granularity)
        return config
    if keys == {"objectives"}:
        return document.validate(Objectives)
    if keys == {"stages"}:
        return [Document(document.file, stage).validate(StageConfig) for stage in document.data["stages"]]
    assert keys <= set(SECTIONS), keys
    for key, section in document.data.items():
        Document(document.file, section).validate(SECTIONS[key])
    return None


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_config_is_valid_and_says_what_it_does(file):
    assert check(Document.read(file)) is not None
    comment = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    command = {"recipes": "merge", "launch": "launch"}.get(file.parent.name, "evolve")
    assert f"jaxmerge {command} {file.relative_to(ROOT)}" in comment
    assert "# Result: " in comment and (command != "evolve" or "not measured" not in comment)
    # Its paths are those of this folder.
    assert ("# Copied elsewhere: " in comment) == (command == "evolve" and "../../demo" in file.read_text("utf-8"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The configs, with stand-ins for the demo's models and data: as deep, with other sizes and random weights.
    As in a checkout, `configs` is a link into the package."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", root / "jaxmerge" / "configs")
    (root / "configs").symlink_to("jaxmerge/configs")
    sizes = CONFIG | {"num_hidden_layers": 6}
    table = architecture_of(sizes).table(architecture_of(sizes).read(sizes))
    shapes = {name: p.shape for p in table for name in p.names(table.num_layers)}
    rng = np.random.default_rng(0)
    for name in ("base", "math", "ja"):
        folder = root / "jaxmerge" / "demo" / "models" / name
        write_model(folder, InMemory({n: rng.normal(0, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}))
        config = json.loads((folder / "config.json").read_text()) | sizes
        (folder / "config.json").write_text(json.dumps(config))
    (root / "jaxmerge" / "demo" / "data").mkdir()
    for i, split in enumerate(("search", "validation", "test")):
        line = json.dumps({"question": f"w{i + 5} ?", "solution": "w9 w10", "number": i})
        (root / "jaxmerge" / "demo" / "data" / f"{split}.jsonl").write_text(line + "\n")
    return root


LOCAL = [file for file in CONFIGS if "../../demo/" in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", LOCAL, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_config_of_local_models_runs(file, checkout, tmp_path):
    copy = checkout / file.relative_to(ROOT)
    if file.parent.name == "recipes":
        merge(copy, tmp_path / "out")
        depth = json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"]
        assert depth == (8 if file.stem == "passthrough" else 6)
    else:
        lines = plan(copy)
        # Of stages the last.
        assert [text for name, text in lines.items() if name.endswith("space")][-1] == {
            "layers_by_likelihood": "task_arithmetic, 16 dimensions",
            "choice": "ties, 4 dimensions",
            "accuracy_against_length": "task_arithmetic, 16 dimensions",
            "accuracy_against_forgetting": "task_arithmetic, 16 dimensions",
            "dataflow_demo": "data flow, 72 dimensions",
            "stages": "data flow, 108 dimensions",
            "low_rank": "low-rank directions, 48 dimensions",
            "joint": "task_arithmetic and data flow, 88 dimensions",
        }[file.stem]


@pytest.mark.parametrize(("page", "text"), SNIPPETS)
def test_a_snippet_is_valid(page, text, own):
    with importable(own):
        for document in Document.parse_all(text, page):
            check(document)


def test_a_snippet_that_is_wrong_is_found(tmp_path):
    with pytest.raises(InputError, match="did you mean 'weight'"):
        check(Document.parse("search: {population: 4}\nspace: {parameters: {wieght: [0, 1]}}", tmp_path))


def test_pages_link_to_files_that_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# The examples of docs/extending.md.


def test_the_operator_clips(own):
    with importable(own):
        clipped = operator("my_operators:CLIPPED")
    base = np.zeros((4, 25), np.float32)
    expert = np.ones((4, 25), np.float32)
    expert[0, 0] = 1000.0
    size = np.sqrt(np.mean(expert.astype(np.float64) ** 2))
    merged = merge_tensor(clipped, base, [expert], {"weight": 0.5, "limit": 2.0}, tensor="w", seed=0)
    assert merged[1, 1] == 0.5
    assert merged[0, 0] == pytest.approx(size, rel=1e-6)


def test_the_operator_is_searched_exported_and_merged_again_with_the_same_bits(own, tmp_path, monkeypatch):
    space = {"operator": "my_operators:CLIPPED", "granularity": "layer"}
    config = write_world(tmp_path, space=space | {"parameters": {"weight": [0.0, 1.5], "limit": [0.5, 3.0]}})
    (tmp_path / "my_operators.py").write_text((own / "my_operators.py").read_text())
    engine = ParameterEngine(read_config(config))
    engine.load()
    genome = np.random.default_rng(0).random(engine.dimension, np.float32)
    recipe = engine.recipe(genome)
    assert recipe["merge_method"] == "my_operators:CLIPPED"
    engine.export(genome, tmp_path / "exported")
    sys.modules.pop("my_operators")
    monkeypatch.chdir(tmp_path)
    merge(recipe, tmp_path / "merged")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("exported", "merged"))
    assert set(first) == set(second)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_an_operator_of_whole_tensors_is_searched_like_any_other(own, tmp_path):
    text = (own / "my_operators.py").read_text()
    scores = []
    for place, code in (("parts", text), ("whole", text.replace("needs_base=True", 'needs_base=True, scope="tensor"'))):
        space = {"operator": "my_operators:CLIPPED", "parameters": {"weight": [0.0, 1.5]}}
        config = write_world(tmp_path / place, space=space)
        (tmp_path / place / "my_operators.py").write_text(code)
        sys.modules.pop("my_operators", None)
        engine = ParameterEngine(read_config(config))
        engine.load()
        scores.append(engine.evaluate(np.full((1, engine.dimension), 0.5, np.float32))[0].score)
    assert scores[0] == scores[1] is not None


class OneModel:
    """A runner whose one model says "yes no" to everything and finds the first text likely and others not."""

    size = 1

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids = tokenizer.encode("w4 w5", special=False)

    def likelihood(self, batch: Batch) -> np.ndarray:
        counts = np.zeros(batch.size)
        for bucket in batch.buckets:
            counts[bucket.index] = bucket.counted.sum(1)
        return (np.where(np.arange(batch.size) == 0, -0.5, -100.0) * counts).astype(np.float32)[None]

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        row = self.ids + [-1] * (max_new_tokens - len(self.ids))
        return np.array([[row] * batch.size], np.int32)


@pytest.fixture
def world(tmp_path, own) -> Path:
    write_world(tmp_path)
    lines = [("w6", "w4 w9", "w4 w5"), ("w7", "w5", "w6 w7")]
    rows = [json.dumps(dict(zip(("question", "answer", "text"), line, strict=True))) for line in lines]
    for split in ("search", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    for file in own.glob("my_*.py"):
        (tmp_path / file.name).write_text(file.read_text())
    return tmp_path


def scored(world: Path, text: str) -> list[np.ndarray]:
    """The examples' scores of every objective of a snippet."""
    objectives = Document.parse(text, world / "snippet.yaml").validate(Objectives).objectives
    tokenizer = Tokenizer.open(world / "models" / "base")
    return [o.score(OneModel(tokenizer), "search").examples[0] for o in build(objectives, tokenizer, world)]


def snippet(word: str) -> str:
    return next(text for text in blocks(ROOT / "docs" / "extending.md", "yaml") if word in text)


@pytest.mark.filterwarnings("ignore:.*also in the search data")
def test_the_metrics_score(world):
    credit, variety = scored(world, snippet("my_metrics"))
    assert credit.tolist() == [0.5, 1.0]
    assert variety.tolist() == [0.0, 0.0]


def test_the_objective_has_a_floor(world):
    (robust,) = scored(world, snippet("my_objectives"))
    assert robust.tolist() == [-0.5, -5.0]


def test_the_algorithm_climbs(own):
    climber = algorithm("my_algorithms:climber", 3, options={"step": 0.1}, folder=own)
    state = climber.init(jax.random.key(0), np.full(3, 0.5, np.float32))
    for generation in range(40):
        genomes, state = climber.ask(jax.random.key(generation), generation, state)
        fitness = np.square(genomes - 0.8).sum(1).astype(np.float32)
        state = climber.tell(jax.random.key(0), generation, genomes, fitness, state)
    assert climber.population == 8
    assert np.abs(state["best"] - 0.8).max() < 0.1


def test_the_architecture_reads_and_has_a_table(own, monkeypatch):
    monkeypatch.setattr("jaxmerge.architectures.registry.ARCHITECTURES", dict(ARCHITECTURES))
    with importable(own):
        for text in blocks(ROOT / "docs" / "extending.md", "python"):
            if "ARCHITECTURES[" in text:
                exec(text, {})
    sizes = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, vocab_size=5)
    acme = architecture_of({"model_type": "acme"})
    table = acme.table(acme.read({"model_type": "acme", "use_bias": True, **sizes}))
    assert {"layers.self_attn.q_norm.weight", "layers.self_attn.k_proj.bias"} <= {p.path for p in table}
    assert "layers.self_attn.o_proj.bias" not in {p.path for p in table}
