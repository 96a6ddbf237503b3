"""config.json to sizes: the defaults of transformers, old keys and new, and what is refused."""

import jax
import pytest
import transformers

from jaxmerge.architectures.registry import ARCHITECTURES, architecture_of
from jaxmerge.errors import InputError

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def read(family: str, **options):
    json = {"model_type": family, **SIZES, **options}
    return architecture_of(json).read(json)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_table_names_and_shapes_are_those_of_transformers(family, tied, bias):
    options = {"tie_word_embeddings": tied, "attention_bias": bias, "mlp_bias": bias}
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(family, **SIZES, **options)
    )
    config = read(family, **options)
    table = architecture_of({"model_type": family}).table(config)
    shapes = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    got = {name: row.shape for row in table for name in row.names(table.num_layers)}
    assert got == shapes
    assert all(len(row.axes) == len(row.shape) for row in table)
    assert len({row.path for row in table}) == len(table.parameters)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_missing_keys_mean_what_they_mean_in_transformers(family):
    theirs = transformers.AutoConfig.for_model(family, **SIZES)
    config = read(family)
    assert config.rope.theta == theirs.rope_parameters["rope_theta"]
    assert config.max_positions == theirs.max_position_embeddings
    assert config.norm_eps == theirs.rms_norm_eps
    assert config.head_dim == (getattr(theirs, "head_dim", None) or 8)
    assert config.tie_embeddings == theirs.tie_word_embeddings
    assert config.windows == ((4096,) * 3 if family == "mistral" else (None,) * 3)
    assert hash(config) == hash(read(family))


def test_old_rope_keys_are_read_like_new_ones():
    new = read("llama", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5})
    old = read("llama", rope_theta=5e5, rope_scaling={"type": "linear", "factor": 4.0})
    assert new.rope == old.rope
    assert new.rope.kind == "linear" and new.rope.theta == 5e5 and new.rope.option("factor") == 4.0
    both = read("llama", rope_theta=5e5, rope_scaling=None, rope_parameters={"rope_type": "default"})
    assert both.rope.kind == "default" and both.rope.theta == 5e5


def test_yarn_takes_its_original_length_from_where_transformers_does():
    rope = {"rope_type": "yarn", "factor": 4.0}
    assert read("llama", rope_parameters=rope).rope.option("original_max_position_embeddings") == 2048
    inside = {**rope, "original_max_position_embeddings": 64}
    assert read("llama", rope_parameters=inside).rope.option("original_max_position_embeddings") == 64


def test_windows_by_layer():
    on = {"use_sliding_window": True, "sliding_window": 6}
    assert read("qwen2", **on, max_window_layers=1).windows == (None, 6, 6)
    assert read("qwen3", **on, max_window_layers=0).windows == (6, 6, 6)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert read("qwen3", **on, layer_types=kinds).windows == (6, None, 6)
    assert read("qwen2", sliding_window=6, max_window_layers=0).windows == (None,) * 3
    assert read("mistral", sliding_window=9).windows == (9,) * 3
    assert read("mistral", sliding_window=None).windows == (None,) * 3


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "longrope.*llama3"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "yarn.*needs 'factor'"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ("llama", {"rope_parameters": [1]}, "mapping"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"hidden_size": None}, "'hidden_size' is missing"),
        ("llama", {"hidden_size": 30}, "multiple of 'num_attention_heads'"),
        ("llama", {"num_key_value_heads": 3}, "multiple of 'num_key_value_heads'"),
        ("llama", {"vocab_size": "big"}, "'vocab_size' is 'big'"),
        ("llama", {"num_hidden_layers": 0}, "'num_hidden_layers' is 0"),
        ("llama", {"hidden_act": "xielu"}, "'hidden_act' is 'xielu'"),
        ("llama", {"tie_word_embeddings": "yes"}, "true or false"),
        ("llama", {"head_dim": 7}, "even"),
        ("qwen2", {"layer_types": ["full_attention"]}, "'layer_types'.*3 layers"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 3}, "use_sliding_window"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "chunked_attention"),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": "all"}, "max_window_layers"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(family, options, message):
    with pytest.raises(InputError, match=message):
        read(family, **options)


@pytest.mark.parametrize("model_type", ["gpt2", None])
def test_an_unknown_architecture_names_the_known_ones(model_type):
    with pytest.raises(InputError, match=rf"{model_type!r}.*llama, mistral, qwen2, qwen3"):
        architecture_of({"model_type": model_type})


def test_a_config_is_a_static_argument_of_jit():
    config = read("llama", rope_parameters={"rope_type": "linear", "factor": 2.0})
    assert jax.jit(lambda c: c.hidden_size, static_argnums=0)(config) == 32
