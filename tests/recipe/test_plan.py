"""Plans: what is resolved, and what is refused before a byte of a tensor is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.recipe.dtypes import named_dtype, promoted
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.tensors import TensorPlan

FT1, FT2, BASE = "inputs/ft1", "inputs/ft2", "inputs/base"
TIES = "merge_method: ties\nbase_model: inputs/base\n"


def by_name(plan: Plan, part: str) -> TensorPlan:
    return next(tensor for tensor in plan.tensors if part in tensor.name)


def test_tensors_come_in_model_order(plan: Callable[[str], Plan]) -> None:
    names = [t.name for t in plan(f"merge_method: passthrough\nmodels: [{{model: {FT1}}}]").tensors]
    assert names[0] == "model.embed_tokens.weight"
    assert set(names[-2:]) == {"lm_head.weight", "model.norm.weight"}
    layers = [int(name.split(".")[2]) for name in names[1:-2]]
    assert layers == sorted(layers) and len(layers) == 6 * 9


def test_precedence_is_source_slice_recipe_default(plan: Callable[[str], Plan]) -> None:
    resolved = plan("""
merge_method: ties
base_model: inputs/base
parameters: {weight: 0.1, density: {filter: mlp, value: 0.2}, lambda: 2}
slices:
- parameters: {weight: {filter: self_attn, value: 0.3}}
  sources:
  - {model: inputs/base, layer_range: [0, 6]}
  - {model: inputs/ft1, layer_range: [0, 6], parameters: {weight: {filter: q_proj, value: 0.4}}}
  - {model: inputs/ft2, layer_range: [0, 6]}
""")
    assert by_name(resolved, "q_proj").params["weight"].tolist() == [0.4, 0.3]
    assert by_name(resolved, "k_proj").params["weight"].tolist() == [0.3, 0.3]
    assert by_name(resolved, "up_proj").params["weight"].tolist() == [0.1, 0.1]
    assert by_name(resolved, "up_proj").params["density"].tolist() == [0.2, 0.2]
    assert by_name(resolved, "k_proj").params["density"].tolist() == [1.0, 1.0]
    assert by_name(resolved, "k_proj").params["lambda"] == 2.0


def test_gradients_run_over_each_slice(plan: Callable[[str], Plan]) -> None:
    resolved = plan("""
merge_method: passthrough
parameters: {scale: [1, 3]}
slices:
- sources: [{model: inputs/ft1, layer_range: [0, 3]}]
- sources: [{model: inputs/ft2, layer_range: [5, 6]}]
""")
    scales = {t.name: t.params["scale"].item() for t in resolved.tensors}
    assert [scales[f"model.layers.{i}.self_attn.q_proj.weight"] for i in range(4)] == [1, 2, 3, 3]
    assert scales["model.embed_tokens.weight"] == scales["lm_head.weight"] == scales["model.norm.weight"] == 1


def test_slices_take_layers_from_their_sources(plan: Callable[[str], Plan]) -> None:
    resolved = plan("""
merge_method: passthrough
slices:
- sources: [{model: inputs/ft1, layer_range: [0, 4]}]
- sources: [{model: inputs/ft2, layer_range: [2, 6]}]
""")
    taken = {t.name: (resolved.references[t.sources[0].model], t.sources[0].name) for t in resolved.tensors}
    assert taken["model.layers.3.mlp.up_proj.weight"] == (FT1, "model.layers.3.mlp.up_proj.weight")
    assert taken["model.layers.4.mlp.up_proj.weight"] == (FT2, "model.layers.2.mlp.up_proj.weight")
    assert taken["model.embed_tokens.weight"] == (FT1, "model.embed_tokens.weight")
    assert taken["lm_head.weight"] == (FT2, "lm_head.weight")
    assert resolved.config["num_hidden_layers"] == 8


def test_an_undeclared_base_is_the_last_input_of_linear(plan: Callable[[str], Plan]) -> None:
    resolved = plan(f"merge_method: linear\nbase_model: {BASE}\nmodels: [{{model: {FT1}}}]\nparameters: {{weight: 1}}")
    assert [resolved.references[p.model] for p in resolved.tensors[0].sources] == [FT1, BASE]
    with pytest.raises(InputError, match=r"base_model: linear needs the parameter 'weight'"):
        plan(f"merge_method: linear\nbase_model: {BASE}\nmodels: [{{model: {FT1}, parameters: {{weight: 1}}}}]")


def test_a_declared_base_is_one_where_it_is_optional(plan: Callable[[str], Plan]) -> None:
    for method in ("nuslerp", "multislerp"):
        text = f"merge_method: {method}\nparameters: {{weight: 1}}\n" + MODELS
        assert by_name(plan(text), "norm").base is None
        with_base = by_name(plan(text + "base_model: inputs/base\n"), "norm")
        assert with_base.base is not None and len(with_base.sources) == 2


def test_the_base_needs_no_weight_for_task_vectors(plan: Callable[[str], Plan]) -> None:
    resolved = plan(TIES + f"models: [{{model: {BASE}}}, {{model: {FT1}, parameters: {{weight: 1}}}}]")
    tensor = resolved.tensors[0]
    assert tensor.base is not None and resolved.references[tensor.base.model] == BASE
    assert [resolved.references[p.model] for p in tensor.sources] == [FT1]


def test_two_ways_to_name_a_folder_are_one_model(plan: Callable[[str], Plan]) -> None:
    resolved = plan(TIES + f"models: [{{model: ./{BASE}/}}, {{model: {FT1}, parameters: {{weight: 1}}}}]")
    assert len(resolved.models) == 2 and len(resolved.tensors[0].sources) == 1


def test_paths_are_tried_in_the_recipes_folder_second(
    plan: Callable[[str], Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FT1, tmp_path / "own")
    assert plan("merge_method: passthrough\nmodels: [{model: own}]").models[0].folder == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    assert plan("merge_method: passthrough\nmodels: [{model: own}]").models[0].folder == Path("own")


def test_dtypes(plan: Callable[[str], Plan]) -> None:
    models = "models: [{model: inputs/ft1}, {model: inputs_bf16/ft2}]\nparameters: {weight: 1}\nmerge_method: linear\n"
    assert {str(t.dtype) for t in plan(models).tensors} == {"float32"}
    assert {str(t.dtype) for t in plan(models + "dtype: float16").tensors} == {"float16"}
    mixed = plan(models + "dtype: float32\nout_dtype: bfloat16")
    assert {str(t.dtype) for t in mixed.tensors} == {"bfloat16"} and mixed.config["dtype"] == "bfloat16"
    half, brain = np.dtype(np.float16), named_dtype("bfloat16")
    assert promoted([half, half]) == half and promoted([half, brain]) == np.float32 == promoted([brain, half])


MODELS = "models: [{model: inputs/ft1}, {model: inputs/ft2}]\n"
ONE = "models: [{model: inputs/ft1, parameters: {weight: 1}}, {model: inputs/ft2, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_method: lniear\n" + ONE, "r.yaml:1: merge_method: .*linear"),
        ("merge_method: ties\n" + ONE, "r.yaml: ties needs the key 'base_model'"),
        (TIES + "models:\n- model: inputs/ft1\n  parameters: {wieght: 1}", "r.yaml:5: models.0.parameters: .*'weight'"),
        (TIES + "models:\n- model: inputs/ft1", "models.0: ties needs the parameter 'weight'"),
        (TIES + ONE + "parameters:\n  density: 1.5", r"r.yaml:5: parameters.density: must be in \[0, 1\], not 1.5"),
        (TIES + ONE + "parameters: {density: [0.5, -1]}", r"must be in \[0, 1\], not -1"),
        (TIES + ONE + "parameters: {weight: true}", "weight: must be a number, not True"),
        (TIES + ONE + "parameters: {normalize: 2}", "normalize: must be true or false, not 2"),
        (
            TIES + "models: [{model: inputs/ft1, parameters: {lambda: 1, weight: 1}}]",
            "lambda: is one value for the whole merge",
        ),
        ("merge_method: linear\nparameters: {weight: 0}\nmodels: [{model: inputs/ft1}]", "weights sum to zero"),
        ("merge_method: passthrough\n" + ONE.replace("weight", "scale"), "r.yaml:2: models: passthrough merges"),
        ("merge_method: linear\nmodels: [{model: inputs/ft9, parameters: {weight: 1}}]", "inputs/ft9: no such folder"),
        (
            "merge_method: passthrough\nmodules: {vision: {models: [{model: inputs/ft1}]}}",
            "r.yaml:2: modules.vision: no tensor belongs to it; their names begin with lm_head, model",
        ),
        ("merge_method: passthrough\nmodels: []\n", "models"),
        ("merge_method: passthrough\n", "exactly one of models, slices, modules"),
        (
            "merge_method: passthrough\nslices:\n- sources: [{model: inputs/ft1, layer_range: [4, 7]}]",
            "r.yaml:3: slices.0.sources.0.layer_range: ends at layer 7, but inputs/ft1 has 6",
        ),
        (
            "merge_method: linear\nparameters: {weight: 1}\nslices:\n- sources:\n"
            "  - {model: inputs/ft1, layer_range: [0, 3]}\n  - {model: inputs/ft2, layer_range: [0, 2]}",
            "r.yaml:6: slices.0.sources.1.layer_range: has 2 layers, the first source has 3",
        ),
        (
            TIES + "parameters: {weight: 1}\nslices:\n- sources: [{model: inputs/ft1, layer_range: [0, 3]}]",
            "slices.0.sources: ties needs the base model among the sources",
        ),
        (
            "merge_method: della\nbase_model: inputs/base\nparameters: {density: 0.9}\n" + ONE,
            "embed_tokens.weight: density 0.9 with epsilon 0.15 leaves the range of probabilities",
        ),
        ("merge_method: nuslerp\nbase_model: inputs/ft1\n" + ONE, "nuslerp merges exactly 2 models besides the base"),
        ("merge_method: model_stock\nbase_model: inputs/ft1\n" + MODELS, "model_stock merges at least 2 models"),
        ("merge_method: arcee_fusion\nbase_model: inputs/base\n" + MODELS, "arcee_fusion merges exactly 1 model"),
        ("merge_method: nearswap\nbase_model: inputs/ft1\n" + MODELS, "nearswap needs the parameter 't'"),
        ("merge_method: karcher\nparameters: {max_iter: 2.5}\n" + MODELS, "max_iter: must be a whole number, not 2.5"),
        ("merge_method: multislerp\nparameters: {weight: 0}\n" + MODELS, "the weights sum to zero"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(plan: Callable[[str], Plan], text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as failed:
        plan(text)
    assert "\n" not in str(failed.value)


def changed(folder: Path, config: dict[str, Any] | None = None, **tensors: np.ndarray | None) -> Path:
    """A copy of ft1 with other tensors (None removes one; `__` stands for a dot) and config entries."""
    shutil.copytree(FT1, folder)
    own = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        own.pop(name.replace("__", "."), None)
        if value is not None:
            own[name.replace("__", ".")] = value
    save_file(own, folder / "model.safetensors", metadata={"format": "pt"})
    whole = json.loads((folder / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


LAYER = "model__layers__5__mlp__up_proj__weight"


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({}, {LAYER: None}, "'model.layers.5.mlp.up_proj.weight' is missing"),
        ({}, {LAYER: np.zeros((3, 3), np.float32)}, r"'model.layers.5.mlp.up_proj.weight' is \[3, 3\]"),
        ({}, {"model__extra__weight": np.zeros(3, np.float32)}, "'model.extra.weight' is not a part"),
        ({"num_hidden_layers": 7}, {}, "model.layers.6"),
        ({"model_type": "own"}, {LAYER: None}, "'model.layers.5.mlp.up_proj.weight' is missing"),
        ({"model_type": "own"}, {LAYER: np.zeros((3, 3), np.float32)}, "merge models of one architecture"),
        (
            {"model_type": "own", "num_hidden_layers": 7},
            {},
            "num_hidden_layers 7, but in model.layers.* layer 6 is missing",
        ),
        (
            {"vocab_size": 50},
            {"model__embed_tokens__weight": np.zeros((50, 16)), "lm_head__weight": np.zeros((50, 16))},
            "'model.embed_tokens.weight' is .* their vocabularies differ; set tokenizer",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(
    plan: Callable[[str], Plan], tmp_path: Path, config: dict[str, Any], tensors: dict[str, Any], message: str
) -> None:
    other = changed(tmp_path / "other", config, **tensors)
    with pytest.raises(CheckpointError, match=message) as failed:
        plan(f"merge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: {FT2}}}, {{model: {other}}}]")
    assert "other" in str(failed.value)


def test_any_architecture_merges_by_its_tensor_names(plan: Callable[[str], Plan], tmp_path: Path) -> None:
    names = ["emb.wte.weight", *(f"stack.{i}.w" for i in range(12)), "out.weight"]
    for model in ("a", "b"):
        (tmp_path / model).mkdir()
        save_file({name: np.ones((2, 3), np.float32) for name in names}, tmp_path / model / "model.safetensors")
        (tmp_path / model / "config.json").write_text("{}")
    resolved = plan("merge_method: linear\nparameters: {weight: [1, 12]}\nmodels: [{model: a}, {model: b}]")
    assert [t.name for t in resolved.tensors] == names
    assert [t.params["weight"][0] for t in resolved.tensors] == [1, *range(1, 13), 1]


def test_a_tied_head_on_disk_is_left_out(plan: Callable[[str], Plan], tmp_path: Path) -> None:
    tied = changed(tmp_path / "tied", {"tie_word_embeddings": True})
    recipe = "merge_method: linear\nparameters: {weight: 1}\nmodels: "
    assert all(t.name != "lm_head.weight" for t in plan(recipe + f"[{{model: {tied}}}]").tensors)
    with pytest.raises(CheckpointError, match=r"lm_head.weight would be lost"):
        plan(recipe + f"[{{model: {tied}}}, {{model: {FT1}}}]")


def test_a_tied_model_gives_its_embedding_as_head(plan: Callable[[str], Plan], tmp_path: Path) -> None:
    tied = changed(tmp_path / "tied", {"tie_word_embeddings": True}, lm_head__weight=None)
    resolved = plan(f"merge_method: linear\nparameters: {{weight: 1}}\nmodels: [{{model: {FT1}}}, {{model: {tied}}}]")
    assert [p.name for p in by_name(resolved, "lm_head").sources] == ["lm_head.weight", "model.embed_tokens.weight"]


def test_our_own_keys_are_read_and_checked_too(plan: Callable[[str], Plan]) -> None:
    recipe = f"merge_method: passthrough\nmodels: [{{model: {FT1}}}]\n"
    own = (
        "jaxmerge: {seed: 7, candidate: 'search:0:1', scores: {search: 1.0}, experts: [a], groups: [b], parameters: {}}"
    )
    assert plan(recipe + own).seed == 7
    with pytest.raises(InputError, match=r"r.yaml:3: jaxmerge: unknown key 'sede'"):
        plan(recipe + "jaxmerge: {sede: 7}")
