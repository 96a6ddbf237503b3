"""A population scores what would be exported, whatever the blocks, and compiles once."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from miniature import SETTINGS, batch, checkpoints, miniature

from jaxmerge.models.generation import generate
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Stored
from jaxmerge.operators.whole_tensor import merge_tensor
from jaxmerge.population.programs import merged_parameters
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.compilations import counted

OPERATORS = sorted(SETTINGS)


def some_values(space, count: int) -> dict[str, np.ndarray]:
    genomes = np.random.default_rng(3).random((count, space.dimension), dtype=np.float32)
    return space.decode(genomes)


def one(values: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: array[index] for name, array in values.items()}


def merged(programs: Programs, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    params = merged_parameters(programs.population, values)
    return jax.tree.map(np.asarray, params)


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, ml_dtypes.bfloat16) for name in OPERATORS), ("ties", np.float32), ("ties", np.float16)]
)
def test_a_candidates_weights_are_those_of_the_merge_tensor_by_tensor(name: str, dtype: type) -> None:
    programs, space = miniature(name, dtype=dtype)
    values = one(some_values(space, 1), 0)
    params = merged(programs, values)
    base, experts = checkpoints(dtype)
    for path, tensor in [
        ("layers.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        ("norm.weight", "model.norm.weight"),
    ]:
        group = np.atleast_1d(space.groups.members[path])[1 if "layers" in path else 0]
        expected = merge_tensor(
            space.operator,
            base.read(tensor) if space.operator.needs_base else None,
            [expert.read(tensor) for expert in experts],
            {parameter: array[group] for parameter, array in values.items()},
            tensor=tensor,
            seed=7,
        )
        got = params[path][1] if "layers" in path else params[path]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, ml_dtypes.bfloat16) for name in OPERATORS), ("dare_ties", np.float32)]
)
def test_inside_the_layer_scan_the_same_bits_are_merged(name: str, dtype: type) -> None:
    programs, space = miniature(name, dtype=dtype)
    values = one(some_values(space, 1), 0)
    expected = merged(programs, values)

    @jax.jit
    def in_scan(population, values):
        weights = population.candidate(values)

        def body(total, index):
            layer = weights.layer(index)
            # A matmul beside it, as in the forward pass, so that the merge is fused as it is there.
            return total + (total[:, :16] @ layer["self_attn.q_proj.weight"].T), layer

        _, layers = jax.lax.scan(body, jnp.ones((3, 16)), jnp.arange(3))
        ids = jnp.array([5, 0, 36, 5])
        embedding = weights.rows("embed_tokens.weight", ids), weights.block("embed_tokens.weight", jnp.int32(30), 7)
        return layers, embedding

    layers, (rows, block) = in_scan(programs.population, values)
    for path, array in layers.items():
        np.testing.assert_array_equal(array, expected[f"layers.{path}"], err_msg=path)
    np.testing.assert_array_equal(rows, expected["embed_tokens.weight"][[5, 0, 36, 5]])
    np.testing.assert_array_equal(block, expected["embed_tokens.weight"][30:])


@pytest.mark.parametrize("name", ["task_arithmetic", "dare_ties"])
def test_likelihoods_are_those_of_the_exported_model(name: str) -> None:
    programs, space = miniature(name)
    values = some_values(space, 3)
    data = batch()
    got = programs.candidates(values).likelihood(data)
    assert got.shape == (3, 5)
    for candidate in range(3):
        weights = Stored(jax.tree.map(jnp.asarray, merged(programs, one(values, candidate))))
        for bucket in data.buckets:
            expected = sequence_log_likelihood(
                weights, programs.shape.config, bucket.tokens, bucket.valid, bucket.counted, dtype=jnp.float32
            )
            np.testing.assert_allclose(got[candidate, bucket.index], expected, rtol=1e-5)


def test_text_is_that_of_the_exported_model() -> None:
    programs, space = miniature("ties")
    programs.shape = replace(programs.shape, cache=jnp.bfloat16)
    values = some_values(space, 2)
    data = batch(left=True)
    got = programs.candidates(values).generate(data, 6, (1, 2))
    assert got.shape == (2, 5, 6)
    for candidate in range(2):
        weights = Stored(jax.tree.map(jnp.asarray, merged(programs, one(values, candidate))))
        for bucket in data.buckets:
            expected = generate(
                weights,
                programs.shape.config,
                bucket.tokens,
                bucket.valid,
                max_new_tokens=6,
                stop_ids=(1, 2),
                dtype=jnp.float32,
                cache=jnp.bfloat16,
            )
            np.testing.assert_array_equal(got[candidate, bucket.index], expected)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_score_does_not_depend_on_the_population_it_was_in(chunk: int) -> None:
    programs, space = miniature("ties", chunk=chunk)
    values = some_values(space, 7)
    data = batch()
    together = programs.candidates(values).likelihood(data)
    for index in (0, 3, 6):
        alone = programs.candidates({name: array[index : index + 1] for name, array in values.items()})
        np.testing.assert_array_equal(alone.likelihood(data)[0], together[index])


def test_every_population_is_served_by_one_compilation() -> None:
    programs, space = miniature("dare_ties", chunk=2)
    data, prompts = batch(), batch(left=True)

    def generation(count: int) -> None:
        runner = programs.candidates(some_values(space, count))
        runner.likelihood(data)
        runner.generate(prompts, 4, (1,))

    generation(8)
    with counted() as compilations:
        for count in (8, 1, 3, 5):
            generation(count)
    assert compilations.count == 0


def test_a_long_bucket_is_cut_into_micro_batches_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, space = miniature("ties")
    values = some_values(space, 2)
    data = batch(((7, 8), (1, 16)))
    whole = programs.candidates(values).likelihood(data)
    monkeypatch.setattr("jaxmerge.population.runner.MICRO_TOKENS", 24)
    again, _ = miniature("ties")
    np.testing.assert_allclose(again.candidates(values).likelihood(data), whole, rtol=1e-5)


def test_bfloat16_runs_in_bfloat16() -> None:
    programs, space = miniature("ties", dtype=ml_dtypes.bfloat16, compute=jnp.bfloat16)
    values = some_values(space, 1)
    params = merged(programs, one(values, 0))
    assert {array.dtype for array in params.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert np.isfinite(programs.candidates(values).likelihood(batch())).all()
