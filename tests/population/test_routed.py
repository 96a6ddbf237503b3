"""Paths through a bank of layers: the fold equals the scaled stream, and one program serves all lengths."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from miniature import CONFIG, InMemory, batch

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.fold import part_of
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.models.attention import attend, positions_of, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.decoder import hidden_states, layer_of, logits
from jaxmerge.models.generation import generate
from jaxmerge.models.rope import rotation
from jaxmerge.models.weights import Stored
from jaxmerge.population.programs import Shape
from jaxmerge.population.routed import LayerBank, Routed, Routing, load_layers
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.compilations import counted
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement
from jaxmerge.spaces.dataflow import Route

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {"attention_bias": True, "head_dim": 8},
}
DEPTHS = (3, 2)


def layout(family: str, depth: int):
    json = CONFIG | {"model_type": family, "num_hidden_layers": depth, "rms_norm_eps": 1e-12} | FAMILIES[family]
    architecture = architecture_of(json)
    config = architecture.read(json)
    return config, architecture.table(config)


def pool(family: str = "llama", dtypes: tuple[Any, ...] = (np.float32, np.float32)) -> tuple[DecoderConfig, LayerBank]:
    """The bank, and the config of its first model as one program for up to eight hops has it."""
    rng = np.random.default_rng(0)
    models = []
    for depth, dtype in zip(DEPTHS, dtypes, strict=True):
        _, table = layout(family, depth)
        models.append(
            (table, InMemory({n: rng.normal(0, 0.4, p.shape).astype(dtype) for p in table for n in p.names(depth)}))
        )
    place = Placement(make_mesh(1))
    config, _ = layout(family, 8)
    return config, load_layers(models, models[0], place)


def routed(bank: LayerBank, layers: list[int], scales: list[float], dtype: Any = jnp.float32) -> Routed:
    factors = Route(np.array(layers), np.array(scales, np.float32)).factors
    places, scales = jnp.array(layers, jnp.int32), jnp.asarray(factors)
    return Routed(bank, places, places, scales, scales[-1], jnp.int32(len(layers)), dtype)


def scaled_stream(bank: LayerBank, config: DecoderConfig, layers: list[int], scales: list[float], tokens, valid):
    """Hidden states after the final norm by the definition: the stream is multiplied on its way into every layer."""
    own = Stored(bank.layers | bank.ends)
    positions = positions_of(valid)
    cos, sin = rotation(config, positions, valid.sum(-1))
    mask = visible(positions, positions, valid, config.windows[0])
    x = own.rows("embed_tokens.weight", tokens)
    for layer, scale in zip(layers, scales, strict=True):
        weights = layer_of(own, jnp.int32(layer), jnp.float32)
        x, _ = block(weights, config, x * scale, cos, sin, lambda q, k, v: (attend(q, k, v, mask), None))
    return rms_norm(x, own.whole("norm.weight"), config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folded_model_is_the_scaled_stream(family: str) -> None:
    config, bank = pool(family)
    layers, scales = [0, 4, 1, 1, 2], [1.0, -0.6, 1.4, -1.3, -0.9]
    [rows, *_] = batch().buckets
    tokens, valid = jnp.asarray(rows.tokens), jnp.asarray(rows.valid)
    folded = hidden_states(routed(bank, layers, scales), config, tokens, valid, dtype=jnp.float32)
    expected = scaled_stream(bank, config, layers, scales, tokens, valid)
    at = np.asarray(valid)
    np.testing.assert_allclose(np.asarray(folded)[at], np.asarray(expected)[at], atol=2e-5, rtol=2e-5)
    plain = hidden_states(routed(bank, layers, [1.0] * 5), config, tokens, valid, dtype=jnp.float32)
    assert np.abs(np.asarray(plain - expected)[at]).max() > 0.1


def test_biases_are_among_the_folded() -> None:
    _, table = layout("llama", 3)
    parts = {p.path: part_of(p.path) for p in table}
    assert parts["layers.self_attn.o_proj.bias"] == parts["layers.mlp.down_proj.bias"] == "output"
    assert parts["layers.self_attn.q_proj.bias"] is None and parts["embed_tokens.weight"] is None
    assert {path for path, part in parts.items() if part == "norm"} == {
        "layers.input_layernorm.weight", "layers.post_attention_layernorm.weight",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tensors_are_scaled_in_float32_and_rounded_once(dtype: Any) -> None:
    _, bank = pool(dtypes=(ml_dtypes.bfloat16, ml_dtypes.bfloat16))
    assert bank.layers["layers.mlp.down_proj.weight"].dtype == np.uint16
    _, wide = pool(dtypes=(ml_dtypes.bfloat16, np.float32))
    assert wide.layers["layers.mlp.down_proj.weight"].dtype == np.float32
    path = routed(bank, [2, 3], [1.0, -0.7], dtype)
    layer = jax.jit(lambda path: path.layer(jnp.int32(1)))(path)
    for name, array in layer.items():
        stored = np.asarray(bank.layers[f"layers.{name}"])[3].view(ml_dtypes.bfloat16).astype(np.float32)
        scale = {"output": np.float32(1 / -np.float64(np.float32(0.7))), "norm": np.float32(-1), None: np.float32(1)}
        expected = (stored * scale[part_of(f"layers.{name}")]).astype(dtype)
        np.testing.assert_array_equal(np.asarray(array), expected, err_msg=name)
    np.testing.assert_array_equal(path.whole("norm.weight"), -routed(bank, [2], [1.0], dtype).whole("norm.weight"))


def test_a_path_of_one_models_layers_is_that_model() -> None:
    config, bank = pool()
    own, _ = layout("llama", 3)
    stored = Stored({path: array[:3] for path, array in bank.layers.items()} | bank.ends)
    [rows, *_] = batch().buckets
    tokens, valid = jnp.asarray(rows.tokens), jnp.asarray(rows.valid)
    expected = logits(stored, own, tokens, valid, dtype=jnp.float32)
    got = logits(routed(bank, [0, 1, 2], [1.0] * 3), config, tokens, valid, dtype=jnp.float32)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.fixture(scope="module")
def programs() -> Programs:
    config, bank = pool()
    return Programs(Shape(config, jnp.float32, make_mesh(1), 1), Routing(bank, jnp.float32))


def population(lengths: list[int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    layers = rng.integers(0, 5, (len(lengths), 8)).astype(np.int32)
    factors = rng.uniform(0.5, 1.5, layers.shape).astype(np.float32)
    return {"layers": layers, "factors": factors, "depth": np.array(lengths, np.int32)}


def test_texts_are_those_of_the_path_written_out(programs: Programs) -> None:
    values, data = population([1, 4, 8]), batch(left=True)
    got = programs.candidates(values).generate(data, 5, (1, 2))
    assert isinstance(programs.population, Routing)
    for member, depth in enumerate((1, 4, 8)):
        path = programs.population.candidate({name: jnp.asarray(array[member]) for name, array in values.items()})
        hops = [path.layer(jnp.int32(hop)) for hop in range(depth)]
        stacked = {f"layers.{name}": jnp.stack([hop[name] for hop in hops]) for name in hops[0]}
        stock = Stored(stacked | {name: path.whole(name) for name in programs.population.bank.ends if "norm" in name})
        stock.params["embed_tokens.weight"] = programs.population.bank.ends["embed_tokens.weight"]
        config, _ = layout("llama", depth)
        for bucket in data.buckets:
            expected = generate(
                stock, config, bucket.tokens, bucket.valid, max_new_tokens=5, stop_ids=(1, 2), dtype=jnp.float32
            )
            np.testing.assert_array_equal(got[member, bucket.index], expected)


def test_paths_of_all_lengths_are_served_by_one_compilation(programs: Programs) -> None:
    data = batch()
    programs.candidates(population([3])).likelihood(data)
    with counted() as compilations:
        many = programs.candidates(population([1 + i % 8 for i in range(20)])).likelihood(data)
    assert compilations.count == 0
    assert len(np.unique(many[:, 0])) == 20


def test_what_stands_behind_a_paths_end_does_not_matter(programs: Programs) -> None:
    values = population([3, 3])
    for name in ("layers", "factors"):
        values[name][1, :3] = values[name][0, :3]
    scores = programs.candidates(values).likelihood(batch())
    np.testing.assert_array_equal(scores[0], scores[1])


def test_vmapped_paths_of_different_lengths_score_the_same(programs: Programs) -> None:
    values, data = population([2, 8, 5]), batch()
    one_by_one = programs.candidates(values).likelihood(data)
    shape = programs.shape
    together = Programs(Shape(shape.config, shape.dtype, shape.mesh, 3), programs.population)
    np.testing.assert_allclose(together.candidates(values).likelihood(data), one_by_one, rtol=2e-5)
