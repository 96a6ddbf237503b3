"""A merge that was killed goes on at the first shard that it did not finish, and gives the same bits."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jaxmerge.merging.stream as streaming
from jaxmerge.cli.main import main
from jaxmerge.errors import InputError
from jaxmerge.merging.merge import merge

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = str(GOLDEN / "dare_linear" / "config.yaml")
SIZE = "12kB"
LEFT = ".out.tmp"


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(GOLDEN)
        return contents(merge(RECIPE, folder / "out", max_shard_size=SIZE))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None, Callable[[], object]], list[str]]:
    """`merged(after, do)`: the names of the tensors from now on, of which the one after so many does `do`."""
    original = streaming.merge

    def watch(after: int | None, do: Callable[[], object]) -> list[str]:
        names: list[str] = []

        def counted(plan: object, tensor: object, inputs: object) -> np.ndarray:
            if len(names) == after:
                do()
            names.append(tensor.name)  # type: ignore[attr-defined]
            return original(plan, tensor, inputs)  # type: ignore[arg-type]

        monkeypatch.setattr(streaming, "merge", counted)
        return names

    return watch


def interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_merge_goes_on_at_the_first_missing_shard(
    tmp_path: Path, merged: Callable[..., list[str]], whole: dict[str, bytes]
) -> None:
    command = ["merge", RECIPE, str(tmp_path / "out"), "--resume", "--max-shard-size", SIZE]
    merged(30, interrupt)
    assert main(command) == 75
    assert {p.name for p in tmp_path.iterdir()} == {LEFT}
    finished = [p.name for p in (tmp_path / LEFT).iterdir() if p.suffix == ".safetensors"]
    assert 1 < len(finished) < len([name for name in whole if name.endswith(".safetensors")]) - 1
    names = merged(None, interrupt)
    assert main(command) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"out"} and contents(tmp_path / "out") == whole
    assert 10 < len(names) < 56 - 10


def test_what_a_kill_left_is_used_on_request_and_else_removed(
    tmp_path: Path, merged: Callable[..., list[str]], whole: dict[str, bytes]
) -> None:
    def kill() -> None:
        shutil.copytree(tmp_path / LEFT, tmp_path / "killed")
        interrupt()

    merged(30, kill)
    # It was no resumption that was killed.
    with pytest.raises(KeyboardInterrupt):
        merge(RECIPE, tmp_path / "out", max_shard_size=SIZE)
    assert {p.name for p in tmp_path.iterdir()} == {"killed"}
    names = merged(None, interrupt)
    shutil.copytree(tmp_path / "killed", tmp_path / LEFT)
    for change in ({"seed": 7}, {"max_shard_size": "20kB"}):
        with pytest.raises(InputError, match=r"out: what was begun is of another recipe or seed, .* --resume"):
            merge(RECIPE, tmp_path / "out", resume=True, **{"max_shard_size": SIZE} | change)
    assert contents(merge(RECIPE, tmp_path / "out", resume=True, max_shard_size=SIZE)) == whole
    resumed = len(names)
    shutil.copytree(tmp_path / "killed", tmp_path / LEFT)
    assert contents(merge(RECIPE, tmp_path / "out", force=True, max_shard_size=SIZE)) == whole
    assert resumed < 56 <= len(names) - resumed
    assert {p.name for p in tmp_path.iterdir()} == {"killed", "out"}


def test_a_damaged_shard_is_written_again(
    tmp_path: Path, merged: Callable[..., list[str]], whole: dict[str, bytes]
) -> None:
    merged(40, interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge(RECIPE, tmp_path / "out", resume=True, max_shard_size=SIZE)
    first = min((tmp_path / LEFT).glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])
    names = merged(None, interrupt)
    assert contents(merge(RECIPE, tmp_path / "out", resume=True, max_shard_size=SIZE)) == whole
    assert names[0] == "model.embed_tokens.weight"


def test_merges_of_a_chain_are_not_made_again(tmp_path: Path, merged: Callable[..., list[str]]) -> None:
    inner = {"name": "inner", "merge_method": "linear", "parameters": {"weight": 1}}
    inner["models"] = [{"model": "inputs/ft1"}, {"model": "inputs/ft2"}]
    outer = {"merge_method": "passthrough", "models": [{"model": "inner", "parameters": {"scale": 2}}]}
    merged(60, interrupt)
    with pytest.raises(KeyboardInterrupt):
        merge([inner, outer], tmp_path / "out", resume=True)
    names = merged(None, interrupt)
    made = merge([inner, outer], tmp_path / "out", resume=True)
    # Both merges have the same tensors.
    assert len(names) == len(set(names)) > 0
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert contents(made) == contents(merge([inner, outer], tmp_path / "again"))
