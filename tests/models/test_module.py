"""The flax.nnx skin: called, trained, asked for text, loaded from a folder."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tokenizers
from flax import nnx

import jaxmerge
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.errors import InputError
from jaxmerge.models.initial import initial_params
from jaxmerge.models.module import CausalLM, left_padded

CONFIG = {
    "model_type": "llama",
    "attention_bias": True,
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "eos_token_id": [1, 3],
}


def small(dtype=jnp.float32) -> CausalLM:
    architecture = architecture_of(CONFIG)
    config = architecture.read(CONFIG)
    params = initial_params(architecture.table(config), jax.random.key(0), embedding_std=0.3, dtype=dtype)
    return CausalLM(params, config, eos_ids=(1,))


def test_initial_params():
    architecture = architecture_of(CONFIG)
    table = architecture.table(architecture.read(CONFIG))
    zero = ("layers.self_attn.o_proj.weight", "layers.mlp.down_proj.weight")
    params = initial_params(table, jax.random.key(1), embedding_std=0.3, std=0.05, zero=zero)
    assert list(params) == [row.path for row in table]
    for row in table:
        assert params[row.path].shape == table.shape(row)
    assert abs(float(params["embed_tokens.weight"].std()) - 0.3) < 0.03
    assert abs(float(params["layers.mlp.up_proj.weight"].std()) - 0.05) < 0.005
    assert all((params[path] == 0).all() for path in (*zero, "layers.self_attn.q_proj.bias"))
    assert (params["layers.input_layernorm.weight"] == 1).all() and (params["norm.weight"] == 1).all()
    with pytest.raises(KeyError, match=r"layers\.o_proj"):
        initial_params(table, jax.random.key(1), zero=("layers.o_proj",))


def test_it_learns_with_optax():
    model = small()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    tokens = jnp.asarray(np.random.default_rng(0).integers(3, 40, (4, 10)), jnp.int32)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(model(tokens)[:, :-1], tokens[:, 1:]).mean()

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    losses = [float(step(model, optimizer)) for _ in range(40)]
    assert losses[-1] < 0.1 * losses[0]
    out = model.generate(tokens[:, :4], max_new_tokens=6, stop_ids=())
    assert (np.asarray(out) == np.asarray(tokens[:, 4:])).mean() > 0.9


def test_split_and_merge_keep_the_parameters_flat():
    model = small()
    graph, state = nnx.split(model)
    again = nnx.merge(graph, state)
    tokens = jnp.arange(6, dtype=jnp.int32)[None]
    assert (again(tokens) == model(tokens)).all()
    assert set(model.weights.params) == set(model.params)
    assert len(jax.tree.leaves(state)) == len(model.weights.params)


def test_padding_is_invisible():
    model = small()
    tokens = jnp.asarray([[0, 0, 5, 6, 7]])
    valid = tokens > 0
    np.testing.assert_allclose(model(tokens, valid)[:, 2:], model(tokens[:, 2:]), atol=1e-5)


def folder_of(model: CausalLM, path, dtype):
    from safetensors.flax import save_file

    architecture = architecture_of(CONFIG)
    table = architecture.table(model.config)
    tensors = {}
    for row in table:
        array = model.weights.params[row.path].astype(dtype)
        tensors |= dict(zip(row.names(table.num_layers), array if row.stacked else [array], strict=True))
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(CONFIG))
    words = {f"w{i}": i for i in range(40)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1"})
    )
    return path


def test_load_gives_a_module_that_speaks(tmp_path):
    folder = folder_of(small(), tmp_path, jnp.bfloat16)
    model = jaxmerge.load(str(folder))
    assert model.params["embed_tokens.weight"].dtype == jnp.bfloat16
    assert model.dtype == jnp.float32
    assert jaxmerge.load(folder, dtype="float32").params["norm.weight"].dtype == jnp.float32
    assert model.eos_ids == (1, 3)
    assert model.config.family == "llama"
    texts = ["w5 w6 w7", "w9"]
    both = model.generate(texts, max_new_tokens=5)
    assert [model.generate(text, max_new_tokens=5) for text in texts] == both
    tokens = model.generate(*left_padded([[5, 6, 7]]), max_new_tokens=5)[0]
    assert both[0].split() == [f"w{t}" for t in tokens.tolist() if t >= 0]


def test_a_model_without_a_folder_has_no_tokenizer():
    with pytest.raises(InputError, match="no tokenizer"):
        small().generate("hello")
    with pytest.raises(InputError, match=r"\[B, T\]"):
        small().generate(np.asarray([1, 2, 3]))
