"""`jaxmerge convert` goes the way that the source says."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
import typer
from typer.testing import CliRunner

from jaxmerge.cli.convert import command
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.model import layout_of

SIZES = {
    "vocab_size": 8,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def make_source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    config = {"model_type": "llama", **SIZES}
    (folder / "config.json").write_text(json.dumps(config))
    _, table = layout_of(Checkpoint(folder, config, {}))
    tensors = {name: np.full(parameter.shape, 0.5, np.float32) for parameter in table for name in parameter.names(2)}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def test_there_and_back(tmp_path):
    app = typer.Typer()
    app.command()(command)
    for source, target, words in [
        (make_source(tmp_path), "flax", "Flax folder"),
        (tmp_path / "flax", "hf", "Hugging Face"),
    ]:
        arguments = [str(source), str(tmp_path / target), "--max-shard-size", "1GB"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0 and words in result.stdout
    back = safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")
    assert back.keys() == Checkpoint.open(tmp_path / "source").tensors.keys()
    assert all((array == 0.5).all() for array in back.values())
