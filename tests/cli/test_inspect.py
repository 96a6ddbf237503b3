"""`jaxmerge inspect` prints JSON only where asked to, else tables."""

import json

import numpy as np
import pytest
import safetensors.numpy
import typer
from typer.testing import CliRunner

from jaxmerge.cli.inspect import command


@pytest.fixture
def models(tmp_path):
    for i, name in enumerate(("base", "a", "b")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "mamba", "vocab_size": 4}')
        array = np.random.default_rng(i).normal(size=(4, 4)).astype(np.float32)
        safetensors.numpy.save_file({"layers.0.w": array}, folder / "model.safetensors")
    return [str(tmp_path / "a"), str(tmp_path / "b"), "--base", str(tmp_path / "base")]


def run(arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_only(models):
    result = json.loads(run([*models, "--json"]))
    assert result["mergeable"] and len(result["kinship"]["cosine"]) == 2


def test_tables(models, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    text = run(models)
    for word in ("Models", "mamba", "Deltas", "layer 0", "Kinship: pearson", "They can be merged."):
        assert word in text
