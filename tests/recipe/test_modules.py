"""Composite models, merged module by module."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.merge import merge
from jaxmerge.recipe.modules import module_of
from jaxmerge.recipe.plan import Plan


def seeing(folder: Path, seed: int, layers: int = 2) -> Path:
    """A model with a language model of `layers` layers, a tower of two blocks and a projector."""
    rng = np.random.default_rng(seed)
    names = [
        "model.embed_tokens.weight",
        *(f"model.layers.{i}.mlp.weight" for i in range(layers)),
        "model.norm.weight",
        *(f"visual.blocks.{i}.norm1.weight" for i in range(2)),
        "visual.patch_embed.weight",
        "visual.merger.mlp.0.weight",
    ]
    folder.mkdir()
    save_file({n: rng.normal(size=(4, 3)).astype(np.float32) for n in names}, folder / "model.safetensors")
    config = {
        "model_type": "seeing",
        "num_hidden_layers": layers,
        "text_config": {"num_hidden_layers": layers, "layer_types": ["a", "b"]},
        "vision_config": {"depth": 2},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    return seeing(tmp_path / "one", 1), seeing(tmp_path / "two", 2)


def test_each_module_is_merged_by_its_own_settings(tmp_path: Path, models: tuple[Path, Path]) -> None:
    one, two = map(str, models)
    recipe: dict[str, Any] = {
        "merge_method": "linear",
        "parameters": {"weight": 1.0, "normalize": False},
        "modules": {
            "text_decoder": {
                "slices": [
                    {"sources": [{"model": one, "layer_range": [0, 2]}]},
                    {"sources": [{"model": two, "layer_range": [1, 2], "parameters": {"weight": 3.0}}]},
                ],
                "parameters": {"weight": [2.0, 1.0]},
            },
            "vision_tower": {"models": [{"model": one}, {"model": two}], "parameters": {"weight": 0.5}},
            "multi_modal_projector": {"models": [{"model": two}]},
        },
    }
    merge(recipe, tmp_path / "out")
    made, a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", *models))
    close = {
        "model.layers.0.mlp.weight": 2 * a["model.layers.0.mlp.weight"],
        "model.layers.1.mlp.weight": a["model.layers.1.mlp.weight"],
        "model.layers.2.mlp.weight": 3 * b["model.layers.1.mlp.weight"],
        "model.embed_tokens.weight": 2 * a["model.embed_tokens.weight"],
        "model.norm.weight": 3 * b["model.norm.weight"],
        "visual.merger.mlp.0.weight": b["visual.merger.mlp.0.weight"],
        **{name: (a[name] + b[name]) / 2 for name in a if name.startswith("visual") and "merger" not in name},
    }
    assert set(made) == set(close)
    for name, value in close.items():
        np.testing.assert_allclose(made[name], value, rtol=1e-6)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"] == {"num_hidden_layers": 3, "layer_types": ["a", "b", "b"]}
    assert config["vision_config"] == {"depth": 2}


def test_what_belongs_to_no_module_is_the_bases(plan: Callable[[str], Plan], models: tuple[Path, Path]) -> None:
    model = f"{{model: {models[1]}, parameters: {{weight: 1}}}}"
    text = f"merge_method: linear\nmodules: {{text_decoder: {{models: [{model}]}}}}"
    with pytest.raises(InputError, match=r"modules: 'visual.*' belongs to none of them"):
        plan(text)
    planned = plan(f"{text}\nbase_model: {models[0]}\nparameters: {{weight: 1}}")
    copied = {t.name for t in planned.tensors if t.copied}
    assert copied == {t.name for t in planned.tensors if t.name.startswith("visual")} and len(copied) == 4
    assert {planned.references[t.sources[0].model] for t in planned.tensors if t.copied} == {str(models[0])}


def test_a_depth_that_no_config_states_cannot_change(plan: Callable[[str], Plan], models: tuple[Path, Path]) -> None:
    source = f"{{sources: [{{model: {models[0]}, layer_range: [0, 1]}}]}}"
    text = f"merge_method: passthrough\nbase_model: {models[0]}\nmodules: {{visual: {{slices: [{source}]}}}}"
    with pytest.raises(CheckpointError, match=r"config.json: says nowhere how many layers 'visual' has"):
        plan(text)
    assert plan(text.replace("visual:", "vision_tower:")).config["vision_config"] == {"depth": 1}
    with pytest.raises(InputError, match=r"modules.vision_tower.slices.0.sources.0.layer_range: ends at layer 3"):
        plan(text.replace("visual:", "vision_tower:").replace("[0, 1]", "[0, 3]"))


def test_encoder_and_decoder_have_depths_of_their_own(plan: Callable[[str], Plan], tmp_path: Path) -> None:
    names = [f"{part}.block.{i}.w" for part in ("encoder", "decoder") for i in range(3)] + ["shared.weight"]
    save_file({name: np.ones((2, 2), np.float32) for name in names}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_layers": 3, "num_decoder_layers": 3}))
    slices = f"{{slices: [{{sources: [{{model: {tmp_path}, layer_range: [0, 2]}}]}}]}}"
    planned = plan(f"merge_method: passthrough\nbase_model: {tmp_path}\nmodules: {{decoder: {slices}}}")
    assert planned.config == {"num_layers": 3, "num_decoder_layers": 2}
    assert [t.name for t in planned.tensors if "decoder" in t.name] == ["decoder.block.0.w", "decoder.block.1.w"]
    assert len(planned.tensors) == 6


def test_names_of_all_ages_lead_to_their_module() -> None:
    modules = ("text_decoder", "vision_tower", "multi_modal_projector")
    of = {
        "language_model.model.layers.0.mlp.weight": "text_decoder",
        "model.language_model.layers.0.mlp.weight": "text_decoder",
        "lm_head.weight": "text_decoder",
        "vision_tower.encoder.layers.0.weight": "vision_tower",
        "model.visual.blocks.0.weight": "vision_tower",
        "model.visual.deepstack_merger_list.0.norm.weight": "multi_modal_projector",
        "multi_modal_projector.linear_1.weight": "multi_modal_projector",
    }
    assert {name: module_of(name, modules) for name in of} == of
    # A part that the recipe leaves out belongs to none of the others.
    assert module_of("visual.merger.mlp.0.weight", ["text_decoder", "vision_tower"]) is None
    assert module_of("model.encoder.layers.0.w", ["encoder"]) == "encoder"
