"""What a user can get wrong, by the real command line: an exit code, one line that says what, nothing written."""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import DAMAGES, MISFITS, NORM, change_json, change_tensors, change_yaml, sized
from lora_folder import product, write_lora
from safetensors.numpy import load_file
from tiny_world import write_world

from jaxmerge.cli.main import main
from jaxmerge.documents import write_yaml

INPUT, CHECKPOINT = 2, 3
COMMANDS: dict[str, tuple[str, ...]] = {
    "merge": ("merge", "recipe.yaml", "out"),
    "evolve": ("evolve", "evolve.yaml", "out"),
    "evaluate": ("evaluate", "models/b", "evolve.yaml"),
    "convert": ("convert", "models/b", "out"),
    "inspect": ("inspect", "models/a", "models/b"),
}
ALL = tuple(COMMANDS)
Refused = Callable[..., str]
SMALL = {"generations": 1, "baselines": ["uniform"], "algorithm": "random_search"}


def recipe(**changes: Any) -> dict[str, Any]:
    models = [{"model": f"models/{name}", "parameters": {"weight": 0.5}} for name in "ab"]
    return {"merge_method": "task_arithmetic", "base_model": "models/base", "models": models} | changes


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    write_world(root, search=SMALL)
    (root / "recipe.yaml").write_text(write_yaml(recipe()))
    return root


@pytest.fixture
def world(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound world as the working directory, for a test to break."""
    root = tmp_path / "world"
    shutil.copytree(pristine, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def refused(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command that must be refused with `code` in one line, before a weight is read and leaving no trace."""

    def check(*arguments: object, code: int, reads: bool = False) -> str:
        before = everything(world)
        with monkeypatch.context() as patch:
            if not reads:
                patch.setattr("jaxmerge.converters.checkpoint._read_bytes", forbidden)
            got = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert got == code, printed.err
        require_one_line(printed.err)
        assert everything(world) == before
        return printed.err

    return check


def forbidden(name: str, *_: object) -> None:
    raise AssertionError(f"the weights of {name} were read")


def everything(root: Path) -> dict[str, int]:
    """All files and folders, hidden ones too, with the time of their last change."""
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


def require_one_line(error: str) -> None:
    assert error.startswith("jaxmerge: ") and error.count("\n") == 1 and error.endswith("\n"), error
    assert "Traceback" not in error


# Keys and names.


@pytest.mark.parametrize(
    ("command", "keys", "value", "message"),
    [
        ("evolve", ("serach",), {}, "unknown key 'serach'; did you mean 'search'?"),
        ("evolve", ("search", "generation"), 3, "unknown key 'generation'; did you mean 'generations'?"),
        ("evolve", ("space", "parameters", "wieght"), 1.0, "unknown parameter 'wieght'; did you mean 'weight'?"),
        ("evolve", ("objectives", 0, "promt"), "x", "unknown key 'promt'; did you mean 'prompt'?"),
        ("evaluate", ("objectives", 0, "promt"), "x", "unknown key 'promt'; did you mean 'prompt'?"),
        ("evaluate", ("objectives", 0, "data", "tset"), "x", "unknown key 'tset'; did you mean 'test'?"),
        ("evaluate", ("objectives", 0, "kind"), "likelyhood", "unknown kind 'likelyhood'; did you mean 'likelihood'?"),
        ("merge", ("dtpye",), "float32", "unknown key 'dtpye'; did you mean 'dtype'?"),
        ("merge", ("models", 0, "wieght"), 1.0, "unknown key 'wieght'"),
        ("merge", ("parameters",), {"wieght": 1.0}, "'wieght'; did you mean 'weight'?"),
        ("merge", ("parameters",), {"t": 0.5}, "unknown parameter of task_arithmetic 't'"),
        ("evolve", ("search", "algorithm"), "CMAES", "did you mean 'CMA_ES'?"),
        ("evolve", ("search", "options"), {"elite_ration": 0.5}, "elite_ration"),
        ("evolve", ("search", "baselines"), ["unifrom"], "did you mean 'uniform'?"),
        ("evolve", ("space", "operator"), "dare_tie", "did you mean 'dare_ties'?"),
        ("merge", ("merge_method",), "task_arithmetics", "did you mean 'task_arithmetic'?"),
        ("evolve", ("space", "granularity"), "layers", "space.granularity: 'layers' is none of model, layer"),
        ("evolve", ("tokenizer",), "models/c", "tokenizer: models/c: no such folder"),
        # What is to come is refused by name.
        ("evolve", ("space", "repeats"), 3, "repeats: belongs to space.kind: dataflow"),
        ("evolve", ("space",), {"kind": "dataflow", "repeats": 0}, "repeats: input should be greater than or equal"),
        ("evolve", ("space",), {"kind": "dataflow", "scale": [0, 2]}, "space.scale: [0, 2] contains 0"),
        ("evolve", ("space",), {"kind": "dataflow", "input": "c"}, "space.input: there is no model 'c'"),
        ("evolve", ("host",), "models/a", "host: not available yet"),
        ("evolve", ("runtime", "bank"), "disk", "nput should be 'auto', 'device', 'sharded' or 'host'"),
        ("evolve", ("runtime", "bank"), "sharded", "sharded: needs a pop axis of at least 2 devices"),
        ("evolve", ("runtime", "memory"), "plenty", "'plenty' is not a size; write for instance 5GB or 512MiB"),
        ("evolve", ("runtime", "memory"), "9kB", "fits in no home on 1 x cpu with 9e-06 GB each: device 0.0"),
        ("evolve", ("runtime", "mesh"), {"pop": 1, "model": 2}, "{pop: 1, model: 2} takes 2 devices, but there are 1"),
        ("evolve", ("objectives", 0, "kind"), "caption", "kind 'caption' (images) is not available yet"),
        ("evaluate", ("objectives", 0, "kind"), "lm_eval", "kind 'lm_eval' is not available yet"),
        ("merge", ("models", 0, "model"), "models/a+models/lora", "models/a+models/lora: no such folder"),
        ("evolve", ("models", "a"), "models/a+models/b+models/c", "names more than one LoRA"),
    ],
)
def test_an_unknown_key_or_name(
    command: str, keys: tuple[str | int, ...], value: Any, message: str, world: Path, refused: Refused
) -> None:
    file = "recipe.yaml" if command == "merge" else "evolve.yaml"
    change_yaml(world / file, *keys, value=value)
    error = refused(*COMMANDS[command], code=INPUT)
    assert message in error and (file in error or str(keys[0]) in error or str(value) in error)


def test_an_unknown_command_option_or_override(refused: Refused) -> None:
    assert "'evolv'" in refused("evolv", "evolve.yaml", "out", code=INPUT)
    assert "--sed" in refused("merge", "recipe.yaml", "out", "--sed", "1", code=INPUT)
    assert "search.generations=5" in refused("evolve", "evolve.yaml", "out", "--set", "search", code=INPUT)
    assert "'tset'" in refused("evaluate", "models/b", "evolve.yaml", "--split", "tset", code=INPUT)
    assert "5 GBs" in refused("convert", "models/b", "out", "--max-shard-size", "5 GBs", code=INPUT)


@pytest.mark.parametrize(
    ("command", "keys", "value", "message"),
    [
        ("merge", ("parameters",), {"density": 1.5}, "parameters.density: must be in [0, 1], not 1.5"),
        ("merge", ("models", 0, "parameters"), {"weight": 0.5, "density": -0.1}, "must be in [0, 1], not -0.1"),
        ("evolve", ("space", "parameters", "density"), [0.1, 1.5], "density: 1.5 lies outside [0, 1]"),
        ("evolve", ("space", "parameters", "density"), -0.5, "density: -0.5 lies outside [0, 1]"),
    ],
)
def test_a_density_outside_0_to_1(
    command: str, keys: tuple[str | int, ...], value: Any, message: str, world: Path, refused: Refused
) -> None:
    change_yaml(world / "recipe.yaml", "merge_method", value="ties")
    change_yaml(world / "evolve.yaml", "space", "operator", value="ties")
    change_yaml(world / ("recipe.yaml" if command == "merge" else "evolve.yaml"), *keys, value=value)
    assert message in refused(*COMMANDS[command], code=INPUT)


def test_weights_that_sum_to_zero(world: Path, refused: Refused) -> None:
    models = [{"model": f"models/{n}", "parameters": {"weight": w}} for n, w in (("a", 1.0), ("b", -1.0))]
    (world / "recipe.yaml").write_text(write_yaml({"merge_method": "linear", "models": models}))
    error = refused(*COMMANDS["merge"], code=INPUT)
    assert "recipe.yaml" in error and "weight" in error and "normalize" in error


# Files.


@pytest.mark.parametrize("command", ["merge", "evolve", "evaluate"])
def test_a_yaml_file_that_is_missing_unreadable_or_no_yaml(command: str, world: Path, refused: Refused) -> None:
    file = world / ("recipe.yaml" if command == "merge" else "evolve.yaml")
    whole = file.read_text()
    file.unlink()
    assert f"{file.name}: there is no such file" in refused(*COMMANDS[command], code=INPUT)
    file.mkdir()
    assert f"{file.name}: cannot be read" in refused(*COMMANDS[command], code=INPUT)
    file.rmdir()
    for content, message in (
        (b"models: [a\nb: 1\n", f"{file.name}:2"),
        (b"models: {a: x}\nmodels: {a: y}\n", f"{file.name}:2"),
        (b"\xff\xfe\x00", file.name),
        (b"a: &a [*a]\n", file.name),
        (b"", file.name),
        (b"- a\n", file.name),
        (whole.encode() + b"\tx: 1\n", file.name),
    ):
        file.write_bytes(content)
        assert message in refused(*COMMANDS[command], code=INPUT)


@pytest.mark.parametrize("command", ALL)
def test_a_model_that_is_nowhere_or_a_file(command: str, world: Path, refused: Refused) -> None:
    shutil.rmtree(world / "models" / "b")
    assert "models/b: no such folder" in refused(*COMMANDS[command], code=INPUT)
    (world / "models" / "b").touch()
    assert "models/b: is a file" in refused(*COMMANDS[command], code=INPUT)


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint(damage: str, command: str, world: Path, refused: Refused) -> None:
    do, message = DAMAGES[damage]
    do(world / "models" / "b")
    error = refused(*COMMANDS[command], code=CHECKPOINT)
    assert message in error and "models/b" in error and ";" in error
    if damage == "pickle":
        assert "save_pretrained" in error


@pytest.mark.parametrize("command", ["merge", "evolve", "evaluate", "convert"])
@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_are_not_those_of_the_architecture(
    misfit: str, command: str, world: Path, refused: Refused
) -> None:
    do, message = MISFITS[misfit]
    do(world / "models" / "b")
    error = refused(*COMMANDS[command], code=CHECKPOINT)
    assert message in error and "models/b" in error


@pytest.mark.parametrize(
    ("changes", "merging", "evolving"),
    [
        ({"vocab_size": 40}, "tokenizer: {source: union}", "vocab_size is 40, but 37"),
        ({"num_hidden_layers": 2}, "model.layers.2.", "num_hidden_layers is 2, but 3"),
        ({"hidden_size": 32}, "merge models of one architecture", "hidden_size is 32, but 16"),
    ],
)
def test_models_of_different_sizes(
    changes: dict[str, int], merging: str, evolving: str, world: Path, refused: Refused, capsys: Any
) -> None:
    sized(**changes)(world / "models" / "b")
    assert merging in refused(*COMMANDS["merge"], code=CHECKPOINT)
    assert evolving in refused(*COMMANDS["evolve"], code=CHECKPOINT)
    assert main(["inspect", "models/a", "models/b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    value = str(next(iter(changes.values())))
    assert not found["mergeable"] and any(value in line for line in found["differences"])


def test_an_unknown_architecture_is_merged_by_tensor_names_only(world: Path, refused: Refused, capsys: Any) -> None:
    for name in ("base", "a", "b"):
        change_json(world / "models" / name / "config.json", model_type="mamba9")
    for command in ("evolve", "evaluate", "convert"):
        error = refused(*COMMANDS[command], code=INPUT)
        assert "'mamba9'" in error and "llama, mistral, qwen2, qwen3" in error and "models/" in error
    assert main(["inspect", "models/a", "models/b", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["models"][0]["evolvable"]
    assert main(["merge", "recipe.yaml", "out"]) == 0
    base, a, b = (load_file(world / "models" / name / "model.safetensors") for name in ("base", "a", "b"))
    merged = load_file(world / "out" / "model.safetensors")
    assert merged.keys() == base.keys()
    for name in base:
        np.testing.assert_allclose(merged[name], (a[name] + b[name]) / 2, atol=1e-6)


@pytest.mark.parametrize("command", [*ALL, "inspect --base"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_in_a_source(value: float, command: str, world: Path, refused: Refused, capsys: Any) -> None:
    change_tensors(world / "models" / "b", lambda t: t[NORM].__setitem__(3, value))
    if command == "inspect":  # without a base it reads no weights
        assert main(list(COMMANDS["inspect"])) == 0
        return
    words = COMMANDS.get(command, (*COMMANDS["inspect"], "--base", "models/base"))
    error = refused(*words, code=CHECKPOINT, reads=True)
    assert f"models/b/model.safetensors: tensor '{NORM}': has NaN or infinite values" in error


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size", "16"), ("num_hidden_layers", 0), ("num_attention_heads", 3), ("vocab_size", None)],
)
@pytest.mark.parametrize("command", ["evolve", "evaluate", "convert"])
def test_a_config_json_with_sizes_that_cannot_be(
    key: str, value: Any, command: str, world: Path, refused: Refused
) -> None:
    change_json(world / "models" / "b" / "config.json", **{key: value})
    error = refused(*COMMANDS[command], code=INPUT)
    assert "models/b" in error and key in error


@pytest.mark.parametrize("command", ["evolve", "evaluate"])
@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_tokenizer_that_cannot_be_read(damage: str, command: str, world: Path, refused: Refused) -> None:
    for name in ("base", "b"):
        file = world / "models" / name / "tokenizer.json"
        if damage == "missing":
            file.unlink()
        else:
            file.write_text('{"model": ')
    assert "tokenizer" in refused(*COMMANDS[command], code=INPUT)


def test_a_damaged_flax_folder(world: Path, refused: Refused) -> None:
    assert main(["convert", "models/b", "flax"]) == 0
    for damage, message in (
        (lambda: (world / "flax" / "config.json").write_text("{"), "config.json"),
        (lambda: (world / "flax" / "jaxmerge.json").write_text('{"version": 9}'), "jaxmerge.json: version is 9"),
        (lambda: shutil.rmtree(world / "flax" / "params"), "params"),
    ):
        damage()
        for words in (("convert", "flax", "out"), ("evaluate", "flax", "evolve.yaml")):
            error = refused(*words, code=CHECKPOINT)
            assert message in error
        shutil.copyfile(world / "models" / "b" / "config.json", world / "flax" / "config.json")
        (world / "flax" / "jaxmerge.json").write_text('{"format": "flax", "version": 1, "dtype": "float32"}')


# Data.


@pytest.mark.parametrize("command", ["evolve", "evaluate"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "test.jsonl: cannot be read"),
        ("", "test.jsonl: no examples"),
        ("\n \n", "test.jsonl: no examples"),
        ('{"question": "w4 w5", "answer": "w4"}\n{"question": \n', "test.jsonl:2: not JSON"),
        ('{"question": "w4 w5", "answer": "w4"}\n[1]\n', "test.jsonl:2: a list"),
        ("[" * 10**5 + "\n", "test.jsonl:1: not JSON"),
        ('{"n": 1' + "0" * 5000 + "}\n", "test.jsonl:1: not JSON"),
        ('{"question": "w4 w5"}\n', "test.jsonl:1: no field 'answer'; the data has: question"),
        ('{"question": "w4 w5", "answer": null}\n', "test.jsonl:1: field 'answer' is null"),
    ],
    ids=["missing", "empty", "blank", "malformed", "no object", "deep", "long number", "no field", "null field"],
)
def test_data_that_cannot_be_used(
    content: str | None, message: str, command: str, world: Path, refused: Refused
) -> None:
    file = world / "test.jsonl"
    file.unlink() if content is None else file.write_text(content)
    assert message in refused(*COMMANDS[command], code=INPUT)


def test_test_data_that_overlaps_the_search_data_is_warned_of(world: Path, capsys: Any) -> None:
    with (world / "test.jsonl").open("a") as stream:
        stream.write((world / "search.jsonl").read_text().splitlines(keepends=True)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: print(f"jaxmerge: warning: {message}", file=sys.stderr)
        for words in (("evolve", "evolve.yaml", "out", "--dry-run"), COMMANDS["evaluate"]):
            assert main(list(words)) == 0
            error = capsys.readouterr().err
            assert "warning: copy: 1 of 9 examples of the test data are also in the search data" in error
            assert error.strip().count("\n") == 0


def test_a_start_that_does_not_fit(world: Path, refused: Refused) -> None:
    change_yaml(world / "evolve.yaml", "search", "start", value="recipe.yaml")
    assert main([*COMMANDS["evolve"], "--dry-run"]) == 0
    change_yaml(world / "recipe.yaml", "merge_method", value="ties")
    error = refused(*COMMANDS["evolve"], code=INPUT)
    assert "search.start: " in error and "recipe.yaml merges by ties" in error
    (world / "recipe.yaml").unlink()
    assert "recipe.yaml: no such recipe" in refused(*COMMANDS["evolve"], code=INPUT)


def test_a_warning_is_one_line_of_the_real_command(world: Path) -> None:
    shutil.copyfile(world / "search.jsonl", world / "test.jsonl")
    done = command_line("evolve", "evolve.yaml", "out", "--dry-run")
    assert done.returncode == 0 and not (world / "out").exists()
    assert done.stderr.startswith("jaxmerge: warning: copy: 8 of 8 examples of the test data")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ALL)
def test_a_lora_that_cannot_be_read(command: str, world: Path, refused: Refused) -> None:
    lora = write_lora(world / "lora", product("model.norm", (16, 16)), base_model_name_or_path="b")
    ref = "models/b+lora"
    change_yaml(world / "recipe.yaml", "models", 1, "model", value=ref)
    change_yaml(world / "evolve.yaml", "models", "b", value=ref)
    words = [ref if word == "models/b" else word for word in COMMANDS[command]]
    assert "'base_model.model.model.norm.lora_A.weight' is for a tensor" in refused(*words, code=CHECKPOINT)
    change_json(lora / "adapter_config.json", use_dora=True)
    assert "adapter_config.json: use_dora is set: it is a DoRA" in refused(*words, code=CHECKPOINT)


# Outputs.


def test_an_output_that_exists(world: Path, refused: Refused) -> None:
    (world / "out").mkdir()
    (world / "out" / "thesis.tex").write_text("years of work")
    for command in ("merge", "convert"):
        assert "out: exists; name another output or replace it with --force" in refused(*COMMANDS[command], code=INPUT)
    assert "out: exists and is not a run's folder; name another output" in refused(*COMMANDS["evolve"], code=INPUT)
    for command in ("merge", "convert", "evolve"):
        words = COMMANDS[command]
        assert "recipe.yaml: " in refused(*words[:2], "recipe.yaml", code=INPUT)
        assert "recipe.yaml/out: cannot be written" in refused(*words[:2], "recipe.yaml/out", code=INPUT)
    words = (*COMMANDS["evaluate"], "--examples")
    assert "nowhere/examples.jsonl: " in refused(*words, "nowhere/examples.jsonl", code=INPUT)
    assert "out: is a folder" in refused(*words, "out", code=INPUT)


@pytest.mark.parametrize("command", ["merge", "evolve", "convert"])
def test_no_space_left_on_the_device(
    command: str, world: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    words = COMMANDS[command]
    if command == "convert":
        assert main(list(words)) == 0
        words = ("convert", "out", "back")
    assert "no space left on the device; free some" in refused(*words, code=INPUT, reads=True)


def test_a_disk_that_fills_up_during_a_search_ends_it_and_the_same_command_goes_on(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def full(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("history.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(list(COMMANDS["evolve"])) == INPUT
    error = capsys.readouterr().err
    assert error.endswith("jaxmerge: out: no space left on the device; free some\n") and "Traceback" not in error
    assert not (world / "out" / "model").exists() and not list(world.rglob("*.tmp"))
    assert main(list(COMMANDS["evolve"])) == 0
    assert (world / "out" / "model" / "model.safetensors").exists()


def test_too_little_space_is_seen_before_weights_are_read(
    world: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 990, 10))
    assert "out: no space left, needs" in refused(*COMMANDS["merge"], code=INPUT)


# Placement.


def command_line(*arguments: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-m", "jaxmerge", *arguments]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


def test_a_population_that_the_devices_do_not_divide(world: Path) -> None:
    """Population 4 on 3 devices: two places are padded, and no score changes."""
    done = command_line("evolve", "evolve.yaml", "three", devices=3)
    assert done.returncode == 0, done.stderr
    assert json.loads((world / "three" / "summary.json").read_text())["devices"].startswith("3 x")
    assert main(["evolve", "evolve.yaml", "one", "--set", "runtime.mesh={pop: 1, model: 1}"]) == 0
    assert json.loads((world / "one" / "summary.json").read_text())["devices"].startswith("1 x")
    one, three = (
        [json.loads(line) for line in (world / run / "history.jsonl").read_text().splitlines()]
        for run in ("one", "three")
    )
    assert len(one) >= 4 and all(row["score"] is not None for row in one)
    assert [row | {"seconds": 0} for row in one] == [row | {"seconds": 0} for row in three]


def test_the_real_command_refuses_like_the_function(world: Path) -> None:
    (world / "models" / "b" / "config.json").unlink()
    before = everything(world)
    done = command_line("evolve", "evolve.yaml", "out")
    assert done.returncode == CHECKPOINT
    require_one_line(done.stderr)
    assert "models/b: has no config.json" in done.stderr and everything(world) == before
