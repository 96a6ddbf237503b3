"""Searches one after another: one history, each stage's result a model of the next, killed and resumed anywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, write_config
from on_disk import tensors
from tiny_world import write_world

from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document, write_documents
from jaxmerge.errors import InputError, Interrupted
from jaxmerge.evolution import evolve as published
from jaxmerge.merging.merge import merge
from jaxmerge.recipe.renaming import references_in
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.best_recipe import best_recipe
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import read_config
from jaxmerge.search.run import Run

SPACE = {"operator": "task_arithmetic", "parameters": {"weight": [0.0, 1.0]}}
STAGES = [
    {"name": "first", "space": SPACE, "search": {"generations": 2, "population": 6}},
    {"name": "second", "space": SPACE, "search": {"generations": 3}},
]


class Engine(FakeEngine):
    """Knows where the models lie that a stage made."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.locations = {name: Location(Path(ref)) for name, ref in (config.models | {"base": config.base}).items()}
        self.tokenizer = self.locations["base"].folder
        data = config.objectives[0].data
        self.splits = tuple(split for split in ("search", "validation", "test") if getattr(data, split) is not None)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    data = dict(Document.read(write_config(tmp_path)).data)
    del data["space"]
    for objective in data["objectives"]:
        objective["data"] = {split: str(tmp_path / file) for split, file in objective["data"].items()}
    data["models"] = {name: str(tmp_path / name) for name in data["models"]}
    data["base"] = str(tmp_path / "base")
    return data | {"stages": STAGES}


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_stages_share_a_history_and_hand_their_result_on(config: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = evolve(config, out, build=Engine)
    counts: dict[str, int] = {}
    for line in lines(out):
        counts[line["stage"]] = counts.get(line["stage"], 0) + 1
    # Random search has the candidates of both stages, rounded up to whole generations.
    assert counts == {"first": 12, "second": 24, "random_search": 40}
    assert list(run.config.models) == ["one", "two", "first"] and run.config.earlier == ["first"]
    assert run.summary["stages"]["first"]["candidates"] == 12
    assert "first" in run.summary["baselines"] and "uniform" in run.summary["baselines"]
    assert run.history.candidates("first") == 12 and run.stages["first"].history.candidates("second") == 24
    first = run.stages["first"]
    assert first.summary["test_score"] is None and "random_search" not in first.summary["baselines"]


@pytest.mark.parametrize("moment", [1, 4, 7, 9, 12, 15, 18])
def test_interrupted_in_any_stage_it_goes_on_to_the_same_end(
    moment: int, config: dict[str, Any], tmp_path: Path
) -> None:
    whole = evolve(config, tmp_path / "whole", build=Engine)
    seen = 0

    def interrupt(event: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == moment:
            raise KeyboardInterrupt

    out = tmp_path / "cut"
    with pytest.raises(Interrupted):
        evolve(config, out, build=Engine, progress=interrupt)
    again = evolve(config, out, build=Engine)
    assert lines(out) == lines(whole.folder)
    assert again.best["parameters"] == whole.best["parameters"]
    assert again.summary["test_score"] == whole.summary["test_score"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([STAGES[0], STAGES[0]], "two are named 'first'"),
        ([STAGES[0] | {"name": "one"}, STAGES[1]], "'one' is also the name of a model"),
        ([STAGES[0] | {"name": "a/b"}, STAGES[1]], r"stages.0.name"),
        ([STAGES[0] | {"saerch": {}}, STAGES[1]], "did you mean 'search'"),
        ([STAGES[0] | {"search": {"generatoins": 3}}, STAGES[1]], r"stages.0: .*did you mean 'generations'"),
        ([STAGES[0] | {"search": {"baselines": ["random_search"]}}, STAGES[1]], "runs once, after the last stage"),
        ([STAGES[0] | {"name": "x_warm_start"}, STAGES[1]], "'x_warm_start' is also the name"),
    ],
)
def test_stages_that_do_not_fit_are_refused(
    stages: list[Any], message: str, config: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        evolve(config | {"stages": stages}, tmp_path / "run", build=Engine)
    assert not (tmp_path / "run").exists()


def test_a_later_stage_is_checked_before_the_first_starts(config: dict[str, Any], tmp_path: Path) -> None:
    wrong = STAGES[1] | {"search": {"algorithm": "CMA-ES"}}
    with pytest.raises(InputError, match="did you mean 'CMA_ES'"):
        evolve(config | {"stages": [STAGES[0], wrong]}, tmp_path / "run", build=Engine)
    assert not (tmp_path / "run").exists()


def test_the_plan_tells_of_every_stage(config: dict[str, Any]) -> None:
    lines = plan(config, build=Engine)
    assert "2 generations, 12 candidates" in lines["first: search"]
    assert "3 generations, 24 candidates" in lines["second: search"]
    # That of both, in whole generations of 8, as the run has it.
    assert "random_search (40 candidates)" in lines["second: baselines"]
    steps = [STAGES[0] | {"search": STAGES[0]["search"] | {"warm_start": {"steps": 2}}}, STAGES[1]]
    assert "random_search (48 candidates)" in plan(config | {"stages": steps}, build=Engine)["second: baselines"]


def test_real_models_go_through_two_stages(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path_factory.mktemp("root") / "home"
    space = {"operator": "task_arithmetic", "granularity": "model", "parameters": {"weight": [-0.3, 1.8]}}
    flow = {"kind": "dataflow", "repeats": 1, "input": "coarse"}
    config = write_world(
        tmp_path,
        stages=[
            {"name": "coarse", "space": space, "search": {"generations": 1}},
            {"name": "flow", "space": flow, "search": {"generations": 1, "baselines": ["uniform"]}},
        ],
    )
    text = config.read_text()
    config.write_text(text[: text.index("space:")] + text[text.index("stages:") :])
    run = published(config, tmp_path / "run")
    assert run.summary["baselines"]["coarse"]["test_score"] is not None
    # The average is of the config's models, not of what a stage made.
    alone = ParameterEngine(read_config(write_world(tmp_path / "alone")))
    average = alone.measure(Untuned("uniform", "linear", ("a", "b"), {"weight": 1.0}), "test")
    assert run.summary["baselines"]["uniform"]["test_score"] == pytest.approx(average.result.score, abs=1e-6)
    card = (run.folder / "model" / "README.md").read_text()
    assert str(tmp_path) not in card and "model: coarse" in card and "model: a\n" in card
    ours = tensors(run.folder / "model")
    # From anywhere, when the run's folder was moved, and when it was moved together with the models.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = run.folder.rename(tmp_path / "moved")
    assert same(ours, merge(moved / "best.yaml", tmp_path / "merged"))
    assert same(ours, Run(moved).export(tmp_path / "exported"))
    documents = Document.read_all(moved / "best.yaml")
    assert [document.data.get("name") for document in documents] == ["coarse", None]
    assert documents[0].data["jaxmerge"]["beside"][str(tmp_path / "models" / "a")] == "../models/a"
    together = tmp_path.rename(tmp_path.with_name("together"))
    monkeypatch.chdir(together)
    assert same(ours, merge(together / "moved" / "best.yaml", together / "again"))


def same(ours: dict[str, np.ndarray], folder: Path) -> bool:
    again = tensors(folder)
    return ours.keys() == again.keys() and all(again[name].tobytes() == ours[name].tobytes() for name in ours)


def passing(*models: str, **more: Any) -> dict[str, Any]:
    return {"merge_method": "passthrough", "slices": [{"sources": [{"model": model} for model in models]}]} | more


def test_what_stages_have_in_common_stands_once_in_the_recipe(tmp_path: Path) -> None:
    def stage(name: str, *documents: dict[str, Any]) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.yaml").write_text(write_documents(documents))
        return str(tmp_path / name / "model")

    models = {"first": stage("first", passing("org/a")), "lost": str(tmp_path / "lost" / "model")}
    models["second"] = stage("second", passing("org/a", name="first"), passing("merged", "first"))
    models["third"] = stage("third", passing("org/b", "first", name="merged"), passing("merged"))
    config = EvolveConfig.model_construct(models={"a": "org/a"} | models, earlier=list(models))
    recipe = [passing("second", "org/c", name="merged"), passing("merged", "third", "first", "lost")]
    file = tmp_path / "best.yaml"
    file.write_text(best_recipe(recipe, tmp_path, config))
    found = {document.data.get("name"): references_in(document.data) for document in Document.read_all(file)}
    assert found == {
        "first": ("org/a",),
        "second": ("second.merged", "first"),
        "third.merged": ("org/b", "first"),
        "third": ("third.merged",),
        "merged": ("second", "org/c"),
        None: ("merged", "third", "first", models["lost"]),
    }


def test_models_that_were_moved_with_a_stage_are_named_where_they_are(tmp_path: Path) -> None:
    for folder in ("run/stages/first", "models/a", "models/lora"):
        (tmp_path / folder).mkdir(parents=True)
    old = ["/before/models/a", "/before/models/a+/before/models/lora", "/before/models/lost"]
    own = {"seed": 1, "beside": {reference: reference.replace("/before", "../../..") for reference in old}}
    stage = tmp_path / "run" / "stages" / "first"
    (stage / "best.yaml").write_text(write_documents([passing(*old, "org/b", jaxmerge=own)]))
    config = EvolveConfig.model_construct(models={"first": str(stage / "model")}, earlier=["first"])
    file = tmp_path / "run" / "best.yaml"
    file.write_text(best_recipe([passing("first")], tmp_path / "run", config))
    first, _ = (document.data for document in Document.read_all(file))
    a, lora = str(tmp_path / "models" / "a"), str(tmp_path / "models" / "lora")
    assert references_in(first) == (a, f"{a}+{lora}", "/before/models/lost", "org/b")
    assert first["jaxmerge"] == {
        "seed": 1,
        "beside": {a: "../models/a", f"{a}+{lora}": "../models/a+../models/lora"},
    }


def test_more_generations_leave_a_stage_that_others_build_on(config: dict[str, Any], tmp_path: Path) -> None:
    stages = [{"name": "first", "space": SPACE}, {"name": "second", "space": SPACE}]
    config = config | {"stages": stages, "search": config["search"] | {"generations": 2}}
    run = evolve(config, tmp_path / "run", build=Engine)
    before = [line for line in lines(run.folder) if line["stage"] == "first"]
    longer = evolve(config | {"search": config["search"] | {"generations": 4}}, tmp_path / "run", build=Engine)
    assert [line for line in lines(run.folder) if line["stage"] == "first"] == before
    assert longer.history.count("second") == 4


def test_one_process_holds_all_stages(config: dict[str, Any], tmp_path: Path) -> None:
    refusals: list[str] = []

    def again(event: Progress) -> None:
        if event.stage in ("first", "second") and event.done == 1:
            with pytest.raises(InputError, match="is at work in it") as refused:
                evolve(config, tmp_path / "run", build=Engine)
            refusals.append(str(refused.value))

    evolve(config, tmp_path / "run", build=Engine, progress=again)
    assert len(refusals) == 2


def test_a_run_in_its_first_stage_is_named_by_its_stages(config: dict[str, Any], tmp_path: Path) -> None:
    def interrupt(event: Progress) -> None:
        if event.stage == "first" and event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        evolve(config, tmp_path / "run", build=Engine, progress=interrupt)
    with pytest.raises(InputError, match=r"its last stage has not begun; name .*stages/first"):
        Run(tmp_path / "run", Engine)
    assert Run(tmp_path / "run" / "stages" / "first", Engine).history.count("first") == 1


def test_a_run_of_another_format_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    run = evolve(config, tmp_path / "run", build=Engine)
    file = run.folder / "config.yaml"
    file.write_text(file.read_text().replace("format: 1", "format: 0"))
    for again in (lambda: evolve(config, run.folder, build=Engine), lambda: Run(run.folder, Engine).config):
        with pytest.raises(InputError, match="in another format"):
            again()
