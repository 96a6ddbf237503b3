"""Checkpoints to parameters and back: what fits, what is refused, placement, and what an export changes."""

import json
import os
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.config_changes import changed_config
from jaxmerge.converters.hf import load_params, read_parameter, save_params
from jaxmerge.converters.model import layout_of, load_model
from jaxmerge.errors import CheckpointError, InputError


def refused(folder, *words, error=CheckpointError, **options):
    with pytest.raises(error) as caught:
        load_model(folder, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma"])
def test_layers_are_stacked_in_order(make_checkpoint, read_all, family):
    folder = make_checkpoint(family, shards=2, num_hidden_layers=12)
    params, tensors = load_model(folder).params, read_all(folder)
    for layer in range(12):
        name = "self_attn.k_proj.weight"
        np.testing.assert_array_equal(params[f"layers.{name}"][layer], tensors[f"model.layers.{layer}.{name}"])
    np.testing.assert_array_equal(params["lm_head.weight"], tensors["lm_head.weight"])


def test_dtype_is_kept_or_cast_to_nearest_even(make_checkpoint):
    folder = make_checkpoint()
    exact, cast = load_model(folder).params, load_model(folder, jnp.bfloat16).params
    assert exact["norm.weight"].dtype == jnp.float32
    for path, array in exact.items():
        np.testing.assert_array_equal(cast[path], np.asarray(array).astype(ml_dtypes.bfloat16))


def pop(name):
    return lambda tensors: tensors.pop(name)


def put(name, array):
    return lambda tensors: tensors.update({name: array})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pop("model.layers.1.mlp.up_proj.weight"), ["model.layers.1.mlp.up_proj.weight", "missing"]),
        (pop("lm_head.weight"), ["lm_head.weight", "missing"]),
        (put("model.layers.3.input_layernorm.weight", np.ones(16, np.float32)), ["layers.3", "not a part"]),
        (put("model.layers.0.self_attn.q_proj.bias", np.ones(32, np.float32)), ["q_proj.bias", "not a part"]),
        (put("model.norm.weight", np.ones(17, np.float32)), ["model.norm.weight", "[17]", "[16]"]),
        (put("model.norm.weight", np.ones((16, 1), np.float32)), ["model.norm.weight", "[16, 1]"]),
        (put("model.norm.weight", np.ones(16, np.float64)), ["model.norm.weight", "float64", "BF16"]),
        (put("model.norm.weight", np.ones(16, np.int8)), ["model.norm.weight", "int8", "BF16"]),
        (
            put("model.layers.2.input_layernorm.weight", np.ones(16, np.float16)),
            ["model.layers.2.input_layernorm.weight", "float16", "float32"],
        ),
        (put("model.norm.weight", np.full(16, np.nan, np.float32)), ["model.norm.weight", "NaN"]),
        (put("model.norm.weight", np.full(16, np.inf, np.float32)), ["model.norm.weight", "infinite"]),
    ],
)
def test_tensors_that_do_not_fit_are_refused(make_checkpoint, change, words):
    refused(make_checkpoint(change=change), "model.safetensors" if "missing" not in words else "model", *words)


def test_a_head_that_differs_though_tied_is_refused(make_checkpoint):
    other = np.ones((48, 16), np.float32)
    refused(
        make_checkpoint(tied=True, change=put("lm_head.weight", other)),
        "lm_head.weight",
        "tie_word_embeddings",
    )


def test_old_rotary_buffers_are_left_out(make_checkpoint):
    buffer = put("model.layers.0.self_attn.rotary_emb.inv_freq", np.ones(2, np.float32))
    assert len(load_model(make_checkpoint(change=buffer)).params) == 12


def test_quantised_and_unknown_models_are_refused(make_checkpoint):
    refused(make_checkpoint(name="q", quantization_config={"bits": 4}), "quantised")
    folder = make_checkpoint(name="u")
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    refused(folder, "mamba", str(folder), error=InputError)


def test_values_beyond_the_dtype_are_refused(make_checkpoint):
    refused(
        make_checkpoint(change=put("model.norm.weight", np.full(16, 1e6, np.float32))),
        "model.norm.weight",
        "float16",
        dtype=np.float16,
    )


EIGHT_DEVICES = """
import sys, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 8)
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxmerge.converters import flax_folder, hf
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.convert import convert
from jaxmerge.converters.model import load_model
folder, work = sys.argv[1:]
assert len(jax.devices()) == 8
mesh = jax.make_mesh((2, 4), ("pop", "model"), axis_types=(AxisType.Auto,) * 2)
split = {"heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"}
def place(parameter):
    axes = [split.get(axis) for axis in parameter.axes]
    return NamedSharding(mesh, PartitionSpec(*([None] if parameter.stacked else []), *axes))
reads = []
read_rows = Checkpoint.read_rows
Checkpoint.read_rows = lambda self, name, *rows: reads.append((name, rows)) or read_rows(self, name, *rows)
sharded = load_model(folder, place=place)
rows = [read for read in reads if "o_proj" not in read[0] and "down_proj" not in read[0]]
assert len(rows) == len(set(rows)), "replicas read the same bytes twice"
plain = load_model(folder)
def equal(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and np.asarray(a[k]).tobytes() == np.asarray(b[k]).tobytes() for k in a)
assert sharded.params["layers.mlp.up_proj.weight"].addressable_shards[0].data.shape == (3, 6, 16)
assert sharded.params["layers.mlp.down_proj.weight"].addressable_shards[0].data.shape == (3, 16, 6)
assert equal(sharded.params, plain.params)
hf.save_params(sharded.params, plain.table, work + "/hf", like=plain.source)
assert equal(load_model(work + "/hf").params, plain.params)
flax_folder.save(sharded.params, work + "/flax", like=plain.source)
assert equal(load_model(work + "/flax").params, plain.params)
again = load_model(work + "/flax", place=place)
assert again.params["layers.mlp.up_proj.weight"].sharding == place(plain.table["layers.mlp.up_proj.weight"])
assert equal(again.params, plain.params)
convert(work + "/flax", work + "/back")
assert equal(load_model(work + "/back").params, plain.params)
print("same")
"""


def test_eight_devices_hold_the_same_bits(make_checkpoint, tmp_path):
    folder = make_checkpoint("qwen3", dtype="bfloat16", shards=3)
    done = subprocess.run(
        [sys.executable, "-P", "-c", EIGHT_DEVICES, str(folder), str(tmp_path)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "same", done.stderr


def test_save_casts_and_names_the_dtype_in_the_config(make_checkpoint, read_all, tmp_path):
    model = load_model(make_checkpoint())
    save_params(model.params, model.table, tmp_path / "out", like=model.source, dtype=jnp.bfloat16)
    tensors = read_all(tmp_path / "out")
    for path in ("norm.weight", "embed_tokens.weight"):
        expected = np.asarray(model.params[path]).astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(tensors[f"model.{path}"], expected)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == model.source.config | {"torch_dtype": "bfloat16"}
    assert list(config) == list(model.source.config)


def test_save_refuses_what_does_not_fit_the_table(make_checkpoint, tmp_path):
    model = load_model(make_checkpoint())
    for change in ({"norm.weight": jnp.ones(15)}, {"more.weight": jnp.ones(15)}):
        with pytest.raises(ValueError):
            save_params(model.params | change, model.table, tmp_path / "out", like=model.source)
    assert not (tmp_path / "out").exists()


def test_save_with_other_layers_and_vocabulary(make_checkpoint, tmp_path):
    types = ["full_attention", "sliding_attention", "full_attention"]
    source = Checkpoint.open(make_checkpoint("qwen3", layer_types=types, sliding_window=8, use_sliding_window=True))
    layers = [0, 1, 1, 2]
    config = source.config | {
        "num_hidden_layers": 4,
        "vocab_size": 50,
        "layer_types": [types[i] for i in layers],
    }
    target = Checkpoint(source.folder, config, source.tensors)
    params = load_params(source, layout_of(source)[1])
    params = {k: v[np.array(layers)] if k.startswith("layers.") else v for k, v in params.items()}
    for path in ("embed_tokens.weight", "lm_head.weight"):
        params[path] = jnp.pad(params[path], ((0, 2), (0, 0)))
    save_params(params, layout_of(target)[1], tmp_path / "out", like=source, layers=layers)
    assert Checkpoint.open(tmp_path / "out").config == config
    assert load_model(tmp_path / "out").config.windows == (None, 8, 8, None)


def test_config_changes():
    config = {
        "a": 1,
        "num_hidden_layers": 2,
        "vocab_size": 8,
        "eos_token_id": [1, 2],
        "layer_types": ["x", "y"],
    }
    assert changed_config(config) == config
    assert changed_config(config, num_layers=2, vocab_size=8, tied=False, dtype=np.float32) == config
    grown = changed_config(config, num_layers=3, vocab_size=9, tied=True)
    assert grown == config | {
        "num_hidden_layers": 3,
        "vocab_size": 9,
        "layer_types": ["x", "y", "y"],
        "tie_word_embeddings": True,
    }
    assert changed_config(config, layers=[1, 0])["layer_types"] == ["y", "x"]
    assert changed_config({"dtype": "float16"}, dtype=ml_dtypes.bfloat16) == {"dtype": "bfloat16"}


@pytest.mark.parametrize(("kind", "tied"), [("Llama", True), ("Qwen2", False), ("Qwen3", True), ("Mistral", False)])
def test_what_transformers_wrote_and_what_it_reads(tmp_path, read_all, same_bits, kind, tied):
    import torch
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied}
    config = getattr(transformers, f"{kind}Config")(**sizes, **heads)
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    model = load_model(tmp_path / "theirs")
    save_params(model.params, model.table, tmp_path / "ours", like=model.source, max_shard_size="15KB")
    assert same_bits(read_all(tmp_path / "ours"), read_all(tmp_path / "theirs"))
    again, info = getattr(transformers, f"{kind}ForCausalLM").from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.dtype == torch.bfloat16
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in theirs.state_dict().items())


def test_reading_holds_the_stacked_array_and_slices_of_one_layer(make_checkpoint):
    source = Checkpoint.open(make_checkpoint(num_hidden_layers=40, hidden_size=64, intermediate_size=1024))
    _, table = layout_of(source)
    parameter = table["layers.mlp.up_proj.weight"]
    for dtype, itemsize in [(None, 4), (ml_dtypes.bfloat16, 2)]:
        tracemalloc.start()
        array = read_parameter(source, table, parameter, dtype)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        layer = 1024 * 64
        assert array.nbytes == 40 * layer * itemsize
        # The slice as read, as cast, and the block that is checked for NaN.
        assert peak <= array.nbytes + layer * (4 + itemsize + 4)


def test_one_compilation_for_each_shape_and_not_for_each_layer(make_checkpoint, tmp_path):
    from jaxmerge.converters import hf

    model = load_model(make_checkpoint(num_hidden_layers=9))
    hf._take.clear_cache()
    save_params(model.params, model.table, tmp_path / "out", like=model.source)
    assert hf._take._cache_size() == len({a.shape for p, a in model.params.items() if p.startswith("layers.")})
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), load_model(tmp_path / "out").params, model.params))
