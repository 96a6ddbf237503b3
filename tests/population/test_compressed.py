"""A compressed bank merges base and dequantised task vectors to the bit, in the layer scan and out of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from miniature import CONFIG, InMemory, checkpoints, miniature

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.operators.whole_tensor import merge_tensor
from jaxmerge.population.bank import prepare
from jaxmerge.population.compressed import Compression, compressed_bytes, is_compressed, load_compressed, quantised
from jaxmerge.population.from_files import Files
from jaxmerge.population.merged import Merging
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement

ARCHITECTURE = architecture_of(CONFIG)
DECODER = ARCHITECTURE.read(CONFIG)
TABLE = ARCHITECTURE.table(DECODER)
EXPERTS = 10  # more than share a byte


def task_vector(expert: np.ndarray, base: np.ndarray, kind: Compression) -> np.ndarray:
    """What is left of a matrix's task vector, in NumPy alone."""
    vector = expert.astype(np.float32) - base.astype(np.float32)
    if kind == "bit":
        scale = np.mean(np.abs(vector), axis=1, keepdims=True, dtype=np.float32)
        return np.where(vector >= 0, scale, -scale)
    scale = np.max(np.abs(vector), axis=1, keepdims=True) / np.float32(127)
    # A row in which nothing changed has no scale.
    return scale * np.round(np.divide(vector, scale, out=np.zeros_like(vector), where=scale > 0))


def merging_of(kind: Compression, dtype: type) -> tuple[Merging, InMemory, tuple[InMemory, ...]]:
    base, experts = checkpoints(dtype, EXPERTS)
    experts[3].tensors["model.layers.1.mlp.up_proj.weight"][5] = base.read("model.layers.1.mlp.up_proj.weight")[5]
    merging = miniature("task_arithmetic")[0].population
    assert isinstance(merging, Merging)
    place = Placement.of(DECODER, make_mesh(devices=jax.devices()[:1]))
    bank = load_compressed(TABLE, base, experts, kind, place)
    statistics = prepare(merging.operator, TABLE, Files(TABLE, base, experts), place, seed=7, grid={})
    return replace(merging, bank=bank, statistics=statistics), base, experts


@pytest.mark.parametrize(("kind", "dtype"), [("int8", np.float32), ("bit", ml_dtypes.bfloat16)])
def test_what_is_merged_is_base_and_dequantised_task_vectors(kind: Compression, dtype: type) -> None:
    merging, base, experts = merging_of(kind, dtype)
    groups = 1 + max(np.ravel(group).max() for _, group in merging.members.rows)
    weight = np.random.default_rng(2).uniform(-0.3, 1.8, (groups, EXPERTS)).astype(np.float32)
    values = {"weight": weight, "lambda": np.ones(groups, np.float32), "normalize": np.zeros(groups, np.float32)}
    values["rescale"] = values["int8_mask"] = values["normalize"]
    ids = jnp.array([5, 0, 36, 5])

    @jax.jit
    def in_scan(merging: Merging, values: dict[str, np.ndarray]) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        weights = merging.candidate(values)

        def body(total: jax.Array, index: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            layer = weights.layer(index)
            return total + (total[:, :16] @ layer["self_attn.q_proj.weight"].T), layer

        _, layers = jax.lax.scan(body, jnp.ones((3, 16)), jnp.arange(3))
        return layers, weights.rows("embed_tokens.weight", ids), weights.block("embed_tokens.weight", jnp.int32(30), 7)

    layers, rows, block = in_scan(merging, values)
    for path in ("layers.mlp.up_proj.weight", "layers.input_layernorm.weight", "embed_tokens.weight"):
        parameter = TABLE[path]
        for layer, name in enumerate(parameter.names(3)):
            own = base.read(name)
            sources = [expert.read(name) for expert in experts]
            if len(own.shape) == 2:
                sources = [own.astype(np.float32) + task_vector(source, own, kind) for source in sources]
            group = np.atleast_1d(merging.members[path])[layer]
            params = {key: array[group] for key, array in values.items()}
            expected = np.asarray(merge_tensor(merging.operator, own, sources, params, tensor=name, seed=7))
            if parameter.stacked:
                np.testing.assert_array_equal(layers[path.removeprefix("layers.")][layer], expected)
            else:
                np.testing.assert_array_equal(rows, expected[ids])
                np.testing.assert_array_equal(block, expected[30:])


@pytest.mark.parametrize("kind", ["int8", "bit"])
def test_it_is_as_large_as_planned(kind: Compression) -> None:
    bank = merging_of(kind, np.float32)[0].bank
    matrices = [parameter for parameter in TABLE if is_compressed(parameter)]
    expected = sum(compressed_bytes(TABLE.shape(parameter), EXPERTS, kind) for parameter in matrices)
    whole = sum(4 * int(np.prod(TABLE.shape(parameter))) for parameter in TABLE)
    vectors = whole - sum(4 * int(np.prod(TABLE.shape(parameter))) for parameter in matrices)
    assert bank.nbytes == expected + whole + EXPERTS * vectors


def test_int8_is_off_by_half_a_step_at_most_and_a_bit_by_no_more_than_any_other_scale() -> None:
    vector = np.random.default_rng(0).normal(0, 1e-3, (32, 64)).astype(np.float32)
    vector[7] = 0.0
    steps, scales = quantised(vector, "int8")
    assert steps.dtype == np.int8 and np.abs(steps).max() == 127 and scales[7] == 0.0
    assert (np.abs(scales[:, None] * steps - vector) <= scales[:, None] * (0.5 + 1e-4)).all()
    signs, means = quantised(vector, "bit")

    def error(scale: np.ndarray) -> np.ndarray:
        return ((np.where(signs, 1, -1) * scale[:, None] - vector).astype(np.float64) ** 2).sum(axis=1)

    for other in (0.9, 0.99, 1.01, 1.1):
        assert (error(means) <= error(means * np.float32(other))).all()
