"""Mixtures of experts: of identical experts the dense model, in transformers; routers where the prompts' states lie."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from miniature import InMemory, checkpoints
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file
from tiny_world import write_model
from transformers import AutoModelForCausalLM

from jaxmerge.cli.main import main
from jaxmerge.errors import InputError
from jaxmerge.merging.experts.mixture import moe

NAMES = ("base", "a", "b")
# What differs from a tiny Llama. What a family takes for granted is left out.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "rms_norm_eps": None,
        "rope_theta": None,
        "rope_parameters": {"rope_type": "default"},
    },
    "mistral": {"architectures": ["MistralForCausalLM"], "sliding_window": 4, "rms_norm_eps": None},
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "use_sliding_window": True,
        "sliding_window": 3,
        "max_window_layers": 1,
    },
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 8},
}
RECIPE: dict[str, Any] = {
    "base_model": "base",
    "gate_mode": "random",
    "experts": [{"source_model": "base"}, {"source_model": "a"}, {"source_model": "b"}],
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tiny Llamas whose texts begin with `<s>`."""
    monkeypatch.chdir(tmp_path)
    base, experts = checkpoints()
    for name, checkpoint in zip(NAMES, (base, *experts), strict=True):
        write_model(Path(name), checkpoint)
        rewrite(name, "tokenizer_config.json", bos_token="<s>")
    return tmp_path


def rewrite(folder: str, name: str, **changes: object) -> None:
    """None removes a key."""
    file = Path(folder) / name
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def become(family: str) -> None:
    """Make the models ones of another family."""
    rng = np.random.default_rng(8)
    for name in NAMES:
        rewrite(name, "config.json", model_type=family, **FAMILIES[family])
        tensors = load_file(f"{name}/model.safetensors")
        for layer in range(3 if family.startswith("qwen") else 0):
            prefix = f"model.layers.{layer}.self_attn"
            for matrix, size in (("q", 16), ("k", 8), ("v", 8)):
                if family == "qwen2":
                    tensors[f"{prefix}.{matrix}_proj.bias"] = rng.normal(0, 0.3, size).astype(np.float32)
                elif matrix != "v":
                    tensors[f"{prefix}.{matrix}_norm.weight"] = rng.normal(1, 0.1, 8).astype(np.float32)
        save_file(tensors, f"{name}/model.safetensors", metadata={"format": "pt"})


def write_recipe(**changes: Any) -> Path:
    with Path("moe.yaml").open("w") as stream:
        YAML(typ="safe").dump(RECIPE | changes, stream)
    return Path("moe.yaml")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 17).reshape(2, 7)).logits


@pytest.mark.parametrize(("family", "gate"), [*((family, "random") for family in FAMILIES), ("llama", "zero")])
def test_of_identical_experts_the_logits_are_the_dense_models(world: Path, family: str, gate: str) -> None:
    become(family)
    shared = [{"source_model": "a", "residual_scale": 0.0}] if family == "qwen2" else None
    moe(write_recipe(gate_mode=gate, experts=[{"source_model": "base"}] * 3, shared_experts=shared), "out", seed=5)
    model, loaded = AutoModelForCausalLM.from_pretrained("out", output_loading_info=True)
    assert not any(loaded.values())
    architecture = {"qwen2": "Qwen2Moe", "qwen3": "Qwen3Moe"}.get(family, "Mixtral") + "ForCausalLM"
    assert type(model).__name__ == architecture == json.loads(Path("out/config.json").read_text())["architectures"][0]
    dense = logits(AutoModelForCausalLM.from_pretrained("base"))
    torch.testing.assert_close(logits(model), dense, atol=1e-5, rtol=0)
    routers = [tensor for name, tensor in load_file("out/model.safetensors").items() if name.endswith(".gate.weight")]
    assert len(routers) == 3 and all(router.any() == (gate == "random") for router in routers)


def test_routers_point_to_the_states_of_prompts(world: Path) -> None:
    prompts = [["w5 w6 w7", "w8"], ["w9 w10 w11 w12 w13"], ["w20"]], [[], ["w5 w6", "w30 w31 w32"], []]
    experts = [
        {"source_model": name, "positive_prompts": own, "negative_prompts": others}
        for name, own, others in zip(NAMES, *prompts, strict=True)
    ]
    moe(write_recipe(gate_mode="hidden", experts=experts), "out")
    dense, written = AutoModelForCausalLM.from_pretrained("base"), load_file("out/model.safetensors")

    def states(texts: list[str]) -> np.ndarray:
        """The mean of what enters each layer at the last token."""
        found = []
        for text in texts:
            ids = torch.tensor([[1, *(int(word[1:]) for word in text.split())]])
            with torch.no_grad():
                hidden = dense(ids, output_hidden_states=True).hidden_states[:-1]
            found.append([layer[0, -1].numpy() for layer in hidden])
        return np.mean(found, axis=0)

    for place, (own, others) in enumerate(zip(*prompts, strict=True)):
        rows = states(own) - (states(others) if others else 0)
        rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
        for layer in range(3):
            router = written[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
            np.testing.assert_allclose(router[place], rows[layer], atol=2e-6)


def test_routers_of_embeddings(world: Path) -> None:
    """Sums of the tokens' embeddings, `<s>` before each prompt, as unit vectors; so is their difference."""
    experts = [
        {"source_model": "a", "positive_prompts": ["w5 w6", "w7"]},
        {"source_model": "b", "positive_prompts": ["w8"], "negative_prompts": ["w9 w10"]},
    ]
    moe(write_recipe(gate_mode="cheap_embed", experts=experts), "out")
    table = load_file("base/model.safetensors")["model.embed_tokens.weight"]

    def unit(row: np.ndarray) -> np.ndarray:
        return row / np.linalg.norm(row)

    rows = [unit(table[[1, 5, 6, 1, 7]].sum(axis=0)), unit(unit(table[[1, 8]].sum(0)) - unit(table[[1, 9, 10]].sum(0)))]
    for layer in range(3):
        router = load_file("out/model.safetensors")[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        np.testing.assert_allclose(router, rows, atol=1e-6)


def test_each_expert_has_its_own_tensors(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experts = [
        {"source_model": "a", "residual_scale": 0.5},
        {"source_model": {"model": {"path": "b"}}, "noise_scale": 0.1},
    ]
    file = write_recipe(experts=experts, dtype="bfloat16", experts_per_token=1)
    assert main(["moe", str(file), "out", "--seed", "3"]) == 0
    written, base, a, b = (load_file(f"{name}/model.safetensors") for name in ("out", *NAMES))
    assert {tensor.dtype for tensor in written.values()} == {np.dtype(ml_dtypes.bfloat16)}
    noise = []
    for layer in range(3):
        for short, long in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
            first, second = (
                written[f"model.layers.{layer}.block_sparse_moe.experts.{place}.{short}.weight"] for place in (0, 1)
            )
            name = f"model.layers.{layer}.mlp.{long}.weight"
            scale = np.float32(0.5 if short == "w2" else 1)
            assert np.array_equal(first, (scale * a[name]).astype(ml_dtypes.bfloat16))
            noise.append((second.astype(np.float32) - b[name]).ravel())
    assert 0.095 < np.concatenate(noise).std() < 0.105
    # A pair of tensors of one shape has noise of its own.
    assert abs(np.corrcoef(noise[0], noise[2])[0, 1]) < 0.3
    for name in base:
        assert ".mlp." in name or np.array_equal(written[name], base[name].astype(ml_dtypes.bfloat16)), name
    config = json.loads(Path("out/config.json").read_text())
    assert (config["num_local_experts"], config["num_experts_per_tok"], config["torch_dtype"]) == (2, 1, "bfloat16")
    assert Path("out/mergekit_moe_config.yml").read_text() == file.read_text()
    card = Path("out/README.md").read_text()
    assert "2 experts, of which 1 are active" in card and "- `b`" in card
    assert Path("out/tokenizer.json").read_bytes() == Path("base/tokenizer.json").read_bytes()
    assert capsys.readouterr().out.strip() == "out"
    moe(file, "again", seed=3)
    assert Path("again/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate_mod": "zero"}, "moe.yaml:.*unknown key 'gate_mod'; did you mean 'gate_mode'"),
        ({"gate_mode": "hiden"}, "moe.yaml:.*gate_mode: .*'hiden'"),
        ({"gate_mode": "hidden"}, "experts.0: gate_mode hidden needs positive_prompts"),
        ({"experts": [{"source_model": "a"}]}, "moe.yaml:.*experts: .*at least 2"),
        ({"experts_per_token": 4}, "experts_per_token: is 4; there are 3 experts"),
        ({"architecture": "qwen3"}, "architecture: base is of type 'llama'; experts can be qwen3"),
        ({"base_model": "mamba"}, "base_model: mamba is of type 'mamba'; experts can be llama, mistral, qwen2, qwen3"),
        ({"shared_experts": [{"source_model": "a"}]}, "shared_experts: MixtralForCausalLM has none"),
        ({"experts": [{"source_model": "a"}, {"source_model": "wide"}]}, "wide/config.json: 'intermediate_size' is 32"),
        ({"experts": [{"source_model": "a"}, {"source_model": "mamba"}]}, "mamba/config.json: 'model_type' is 'mamba'"),
        ({"experts": [{"source_model": "a"}, {"source_model": "no"}]}, "no: no such folder"),
    ],
)
def test_a_wrong_recipe_is_refused(
    world: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    base, _ = checkpoints()
    wide = {n: np.zeros([32 if s == 24 else s for s in t.shape], np.float32) for n, t in base.tensors.items()}
    for name, tensors in (("wide", wide), ("mamba", base.tensors)):
        write_model(Path(name), InMemory(tensors))
    rewrite("wide", "config.json", intermediate_size=32)
    rewrite("mamba", "config.json", model_type="mamba")

    def forbidden(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("jaxmerge.converters.checkpoint._read_bytes", forbidden)
    with pytest.raises(InputError, match=message):
        moe(write_recipe(**changes), "out")
    assert not Path("out").exists()


def test_windows_of_some_layers_have_no_place_in_qwen3(world: Path) -> None:
    become("qwen3")
    rewrite("base", "config.json", use_sliding_window=True, sliding_window=3, max_window_layers=1)
    with pytest.raises(InputError, match=r"base/config\.json: some layers have a sliding window and some have none"):
        moe(write_recipe(), "out")


def test_prompts_that_cancel_leave_nothing_behind(world: Path) -> None:
    expert = {"source_model": "a", "positive_prompts": ["w5"], "negative_prompts": ["w5"]}
    with pytest.raises(InputError, match="positive and negative prompts are the same to the base"):
        moe(write_recipe(gate_mode="cheap_embed", experts=[expert, expert]), "out")
    assert not [path for path in Path().iterdir() if "out" in path.name]
