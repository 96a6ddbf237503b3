"""Pickled weights: read as tensors on request, and never run."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from jaxmerge.cli.main import main
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.pickled import open_pickled
from jaxmerge.converters.reference import Location
from jaxmerge.errors import CheckpointError

MODELS = "models: [{model: one}, {model: two}]\n"
WEIGHTS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.linspace(-2, 2, 5).to(torch.bfloat16),
    "c": torch.arange(6).reshape(2, 3)[1:],
    "half": torch.tensor(1.5, dtype=torch.float16),
    "empty": torch.zeros(0, 4),
    "flag": torch.tensor([True, False]),
}


def saved(folder: Path, content: object, name: str = "pytorch_model.bin", **options: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    torch.save(content, folder / name, **options)
    return folder


def test_tensors_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    checkpoint = open_pickled(saved(tmp_path / "m", WEIGHTS | {"p": torch.nn.Parameter(WEIGHTS["a"])}))
    for name, tensor in (WEIGHTS | {"p": WEIGHTS["a"]}).items():
        assert checkpoint.info(name).shape == tuple(tensor.shape)
        assert checkpoint.read(name).astype(np.float64).tolist() == tensor.double().tolist()
    assert checkpoint.read_rows("a", 1, 3).tolist() == WEIGHTS["a"][1:].tolist()
    assert str(checkpoint.info("b").dtype) == "bfloat16"


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saved(tmp_path / "m", {name: WEIGHTS[name]}, f"{name}.bin")
    index = tmp_path / "m" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.bin", "b": "b.bin"}}))
    assert set(open_pickled(tmp_path / "m").tensors) == {"a", "b"}
    index.write_text(json.dumps({"weight_map": {"a": "../a.bin"}}))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin\.index\.json"):
        open_pickled(tmp_path / "m")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("content", [{"a": Evil()}, Evil(), {"a": 3}, [WEIGHTS["a"]], {"a": WEIGHTS["a"].T}])
def test_what_is_no_dictionary_of_tensors_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: ") as failed:
        open_pickled(saved(tmp_path / "m", content))
    assert "\n" not in str(failed.value) and not (tmp_path / "ran").exists()


def test_damaged_and_older_files_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", WEIGHTS)
    file = folder / "pytorch_model.bin"
    whole = file.read_bytes()
    older = tmp_path / "older"
    saved(older, WEIGHTS, _use_new_zipfile_serialization=False)
    plain = pickle.dumps({"a": 1})
    for content in (b"", whole[: len(whole) // 2], plain, (older / "pytorch_model.bin").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="is not an archive of tensors"):
            open_pickled(folder)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", plain)
    with pytest.raises(CheckpointError, match="is not a dictionary of tensors"):
        open_pickled(folder)


def test_a_merge_reads_them_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.chdir(tmp_path)
    one = {f"layers.{i}.w": torch.full((2, 2), float(i)) for i in range(2)}
    saved(tmp_path / "one", one)
    saved(tmp_path / "two", {name: tensor + 2 for name, tensor in one.items()})
    (tmp_path / "r.yaml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}, {model: two}]"
    )
    assert main(["merge", "r.yaml", "out"]) == 3
    assert "--allow-pickle" in capsys.readouterr().err  # type: ignore[attr-defined]
    assert main(["merge", "r.yaml", "out", "--allow-pickle"]) == 0
    made = open_checkpoint(Location(tmp_path / "out"))
    assert made.read("layers.1.w").tolist() == [[2.0, 2.0], [2.0, 2.0]]
