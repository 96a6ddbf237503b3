"""Recipes over models with LoRAs: what is merged is what each would be by itself, and the card names all of them."""

from pathlib import Path

import numpy as np
import pytest
from lora_folder import product, write_lora
from miniature import CONFIG, checkpoints
from ruamel.yaml import YAML
from tiny_world import write_model

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.merging.inspection import inspect
from jaxmerge.merging.merge import merge

HIDDEN, FFN = CONFIG["hidden_size"], CONFIG["intermediate_size"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, two LoRAs on it, and what each makes of it as a folder of its own."""
    monkeypatch.chdir(tmp_path)
    base, _ = checkpoints()
    write_model(Path("base"), base)
    (Path("base") / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for name in ("math", "ja"):
        modules = {"model.layers.1.mlp.up_proj": (FFN, HIDDEN), "model.layers.0.self_attn.o_proj": (HIDDEN, HIDDEN)}
        tensors = {k: v for m, shape in modules.items() for k, v in product(m, shape, seed=len(name)).items()}
        write_lora(Path(name), tensors, base_model_name_or_path="base")
        merge({"merge_method": "passthrough", "models": [{"model": f"base+{name}"}]}, f"{name}-whole")
    (Path("math") / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path


def tensors(folder: str) -> dict[str, bytes]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name).tobytes() for name in checkpoint.tensors}


def recipe(math: object, ja: object) -> dict[str, object]:
    parameters = {"weight": 0.6, "density": 0.7}
    models = [{"model": ref, "parameters": parameters} for ref in (math, ja)]
    return {"merge_method": "dare_ties", "base_model": "base", "models": models, "jaxmerge": {"seed": 3}}


def test_a_merge_of_loras_equals_the_merge_of_what_they_make(world: Path) -> None:
    merge(recipe("base+math", {"model": {"path": "base"}, "lora": {"path": "ja"}}), "loras")
    merge(recipe("math-whole", "ja-whole"), "wholes")
    assert tensors("loras") == tensors("wholes") != tensors("base")
    assert (world / "loras" / "config.json").read_bytes() == (world / "wholes" / "config.json").read_bytes()
    assert (world / "loras" / "tokenizer.json").exists()
    _, matter, body = (world / "loras" / "README.md").read_text().split("---\n", 2)
    found = YAML(typ="safe").load(matter)
    assert found["base_model"] == ["base", "math", "ja"] and found["license"] == "other"
    assert "`base`, license: apache-2.0, with the LoRA `math`, license: mit\n" in body


def test_a_token_is_taken_from_the_model_with_its_lora(world: Path) -> None:
    embedding = {
        "model.embed_tokens.lora_embedding_A": np.ones((4, CONFIG["vocab_size"]), np.float32),
        "model.embed_tokens.lora_embedding_B": np.full((HIDDEN, 4), 0.5, np.float32),
    }
    write_lora(Path("words"), embedding, base_model_name_or_path="base", ensure_weight_tying=True)
    source = {"source": "base+words", "tokens": {"w5": {"source": "base+words", "force": True}}}
    models = [{"model": ref, "parameters": {"weight": 1}} for ref in ("base", "base+words")]
    merge({"merge_method": "linear", "models": models, "tokenizer": source}, "out")
    base, out = (Checkpoint.open(folder).read("model.embed_tokens.weight") for folder in ("base", "out"))
    # 2 x (4 x 0.5 x 1) more in every element; the mean of both models, but for the token of one.
    np.testing.assert_allclose(out - base, np.where(np.arange(len(base)) == 5, 4, 2)[:, None] + 0 * base, atol=1e-5)


def test_a_lora_that_parts_embedding_and_head_needs_a_base_that_has_both(world: Path) -> None:
    write_lora(Path("head"), product("lm_head", (CONFIG["vocab_size"], HIDDEN)), base_model_name_or_path="base")
    merge({"merge_method": "passthrough", "models": [{"model": "base+head"}]}, "parted")
    own, parted = Checkpoint.open("base"), Checkpoint.open("parted")
    assert parted.config["tie_word_embeddings"] is False
    assert parted.read("model.embed_tokens.weight").tobytes() == own.read("model.embed_tokens.weight").tobytes()
    assert not np.array_equal(parted.read("lm_head.weight"), own.read("model.embed_tokens.weight"))
    with pytest.raises(Exception, match=r"lm_head.weight would be lost, since base ties its embeddings"):
        merge(recipe("base+math", "base+head"), "out")


def test_inspect_measures_the_model_with_its_lora(world: Path) -> None:
    loras, wholes = (inspect([f"{of}math{end}", f"{of}ja{end}"], "base") for of, end in (("base+", ""), ("", "-whole")))
    assert loras["deltas"][0]["total"] == wholes["deltas"][0]["total"]
    assert loras["kinship"]["cosine"] == wholes["kinship"]["cosine"]
    assert loras["mergeable"] and loras["models"][0]["folder"] == f"{world}/base+{world}/math"
    assert loras["models"][0]["lora"] == {"rank": 4, "tensors": 2} and wholes["models"][0]["lora"] is None
