"""The evolve config: what it accepts, and how it refuses."""

from pathlib import Path
from typing import Any

import pytest

from jaxmerge.documents import Document, write_yaml
from jaxmerge.errors import InputError
from jaxmerge.search.baselines import has_random_search, untuned
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.resolved import plain, read_config
from jaxmerge.search.space_config import Bounds

TEXT = """\
models: {a: x, b: y}
base: z
space:
  operator: dare_ties
  parameters:
    weight: [0.0, 1.5]
    density: {low: 0.1, high: 1.0, init: 0.5}
    lambda: 1
    normalize: true
objectives:
- name: o
  kind: likelihood
  data: {search: s.jsonl}
  text: "{text}"
"""


def read(*overrides: str) -> EvolveConfig:
    return Document.parse(TEXT, Path("e.yaml")).override(overrides).validate(EvolveConfig)


def test_defaults_and_bounds() -> None:
    config = read()
    parameters = config.space.parameters
    assert parameters["weight"] == Bounds(low=0.0, high=1.5)
    assert parameters["density"] == Bounds(low=0.1, high=1.0, init=0.5)
    assert parameters["lambda"] == 1.0 and parameters["normalize"] is True
    negation = read("space={operator: task_arithmetic, parameters: {weight: [-1.0, 1.5]}}")  # of what a model learned
    assert negation.space.parameters["weight"] == Bounds(low=-1.0, high=1.5)
    assert config.search.population == "auto" and config.search.sigma == 0.1667 and config.tokenizer == "base"
    assert config.search.last_generation == 100
    assert read("search.budget.candidates=50").search.last_generation is None
    assert read("search.budget.hours=1", "search.generations=7").search.last_generation == 7
    mesh = read("runtime.mesh={model: 2}").runtime.mesh
    assert mesh != "auto" and (mesh.pop, mesh.model) == (None, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("spaec=1", "unknown key 'spaec'; did you mean 'space'?"),
        ("search.generatoins=1", "search: unknown key 'generatoins'; did you mean 'generations'?"),
        ("space.parameters.wieght=1", "dare_ties: unknown parameter 'wieght'; did you mean 'weight'?"),
        ("space.operator=dare_teis", "did you mean"),
        ("space.parameters.weight=[1, 0]", "the lower bound 1 must be below the upper bound 0"),
        ("space.parameters.weight=[1]", "write [low, high], a number, or {low, high, init}, not [1]"),
        ("space.parameters.weight=high", "write [low, high], a number"),
        ("space.parameters.weight={low: 1, high: 2, init: 3}", "init 3 lies outside its bounds [1, 2]"),
        ("space.parameters.density=[0.1, 1.2]", "1.2 lies outside [0, 1]"),
        ("space.parameters.density=-0.5", "-0.5 lies outside [0, 1]"),
        ("space.parameters.normalize=1", "must be true or false"),
        ("space.parameters={weight: 1}", "nothing is searched; give [low, high], such as weight: [0, 1.5]"),
        ("space={operator: cabs, parameters: {n: [1, 2]}}", "space.parameters.n: cannot be searched; give one number"),
        ("space={operator: wudi, parameters: {steps: [1, 2]}}", "space.parameters.steps: cannot be searched"),
        ("space={operator: iso_c}", "nothing is searched; give [low, high], such as lambda: [0, 2]"),
        ("space.kind=dataflow", "space.operator: belongs to space.kind: parameter, this is dataflow; remove it"),
        ("space.max_hops=64", "space.max_hops: belongs to space.kind: dataflow, this is parameter; remove it"),
        ("space={kind: dataflow, repeats: 0}", "space.repeats: input should be greater than or equal to 1, not 0"),
        ("space={kind: dataflow, max_hops: 1}", "space.max_hops: input should be greater than or equal to 2, not 1"),
        ("space={kind: dataflow, scales: hops}", "space.scales: input should be 'none', 'hop', 'pair' or 'network'"),
        ("space={kind: dataflow, scale: [0, 1.5]}", "space.scale: [0, 1.5] contains 0"),
        ("space={kind: dataflow, scale: [-1, 1.5]}", "space.scale: [-1, 1.5] contains 0"),
        ("space={kind: dataflow, scale: [1.1, 1.5]}", "space.scale: [1.1, 1.5] must contain 1"),
        ("space={kind: dataflow, scale: 1}", "space.scale: write [low, high], not 1"),
        ("space={kind: dataflow, input: c}", "space.input: there is no model 'c'; name one of a, b"),
        ("space={kind: dataflow, included: {others: 1.5}}", "space.included.others: input should be less than"),
        ("space={kind: dataflow, included: {other: 0.5}}", "unknown key 'other'; did you mean 'others'?"),
        ("space={kind: dataflow, repeat: 2}", "space: unknown key 'repeat'; did you mean 'repeats'?"),
        ("host=llava", "not available yet"),
        ("stages=[{name: first}]", "the key 'stages.0.space' is missing"),
        ("runtime.mesh={pop: 1, model: 0}", "runtime.mesh.model: input should be greater than or equal to 1, not 0"),
        ("runtime.mesh=8", "write auto or {pop: n, model: m}, not 8"),
        ("runtime.bank=disk", "'auto', 'device', 'sharded' or 'host'"),
        ("runtime.memory=plenty", "not a size"),
        ("runtime.chunk=0", "write auto or a whole number from 1 on, not 0"),
        ("runtime.dtype=int8", "not 'int8'"),
        ("base=null", "dare_ties needs a base model"),
        ("models={}", "at least 1 item"),
        ("models.ties=w", "models.ties: is the name of a baseline"),
        ("search.population=0", "write auto or a whole number from 1 on, not 0"),
        ("search.seed=-1", "greater than or equal to 0, not -1"),
        ("search.budget.candidates=0", "greater than or equal to 1"),
        ("output.max_shard_size=5XB", "'5XB' is not a size"),
        ("objectives.0.kidn=x", "objectives.0: unknown key 'kidn'; did you mean 'kind'?"),
        ("objectives=[]", "at least 1 item"),
    ],
)
def test_a_wrong_value_is_one_line_naming_the_key(override: str, message: str) -> None:
    with pytest.raises(InputError) as failed:
        read(override)
    assert message in str(failed.value) and "\n" not in str(failed.value)
    assert failed.value.exit_code == 2


def test_errors_in_the_file_name_its_line(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(TEXT.replace("high: 1.0", "high: 1.5"))
    with pytest.raises(InputError) as failed:
        read_config(tmp_path / "e.yaml")
    assert str(failed.value) == f"{tmp_path}/e.yaml:7: space.parameters.density: 1.5 lies outside [0, 1]"


def test_a_pair_needs_two_models() -> None:
    space = "space={kind: dataflow, scales: pair}"
    assert read(space).input == "a"
    with pytest.raises(InputError, match=r"space\.scales: pair needs at least two models"):
        read(space, "models={a: x}")


def test_a_space_is_written_with_the_keys_of_its_kind() -> None:
    flow = read("space={kind: dataflow, scale: [0.5, 2]}", "base=null")
    assert set(plain(flow)["space"]) == {"kind", "repeats", "scales", "scale", "max_hops", "included"}
    assert "repeats" not in plain(read())["space"]
    assert Document.parse(write_yaml(plain(flow)), Path("c.yaml")).validate(EvolveConfig) == flow


def test_two_objectives_of_one_name(tmp_path: Path) -> None:
    config: dict[str, Any] = Document.parse(TEXT, Path("e.yaml")).data
    config["objectives"] *= 2
    with pytest.raises(InputError, match="objectives: two are named 'o'"):
        read_config(config)


def test_what_is_written_reads_back_to_the_same() -> None:
    config = read("search.options={std_min: 1e-3}", "runtime.mesh={pop: 2}", "space.granularity={block: 2}")
    assert Document.parse(write_yaml(plain(config)), Path("c.yaml")).validate(EvolveConfig) == config


def test_paths_are_relative_to_the_configs_folder(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(TEXT)
    assert read_config(tmp_path / "e.yaml").folder == tmp_path
    with pytest.raises(InputError, match=f"search.start: {tmp_path}/r.yaml: no such recipe"):
        read_config(tmp_path / "e.yaml", ["search.start=r.yaml"])


def test_default_baselines_are_those_the_models_allow() -> None:
    names = [merge.name for merge in untuned(read())]
    assert names == ["uniform", "task_arithmetic", "task_arithmetic 1/n", "ties", "dare_ties"]
    without = read("base=null", "space.operator=linear", "space.parameters={weight: [0, 1]}")
    assert [merge.name for merge in untuned(without)] == ["uniform"] and has_random_search(without)
    assert not has_random_search(read("search.baselines=[ties]"))
    halves = next(merge for merge in untuned(read()) if merge.name == "task_arithmetic 1/n")
    assert halves.parameters == {"weight": 0.5} and halves.sources == ("a", "b")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.baselines=[unifrom]"], "unknown baseline 'unifrom'; did you mean 'uniform'?"),
        (
            ["base=null", "space.operator=linear", "space.parameters={weight: [0, 1]}", "search.baselines=[ties]"],
            "search.baselines: ties needs a base model; remove it",
        ),
    ],
)
def test_a_baseline_that_cannot_be_made_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as failed:
        untuned(read(*overrides))
    assert message in str(failed.value)
