"""Paths through a pool with a merge in it: its layers are those of the whole merge, made on the spot."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from miniature import batch, miniature

from jaxmerge.architectures.fold import part_of
from jaxmerge.models.generation import generate
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.models.weights import Stored, Weights
from jaxmerge.population.joint import PREFIX, Joint
from jaxmerge.population.merged import Merged, Merging, materialised
from jaxmerge.population.programs import Shape
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.compilations import counted
from jaxmerge.runtime.mesh import make_mesh

# Two experts of three layers each, and their merge: places 0 to 8, of which the last three are merged.
HOPS, MERGED = 8, 6
Values = dict[str, np.ndarray]


def joint(dtype: Any = np.float32, compute: Any = jnp.float32, ends: int = 2, chunk: int = 1) -> Programs:
    programs, _ = miniature("ties", dtype=dtype)
    assert isinstance(programs.population, Merging)
    config = programs.shape.config
    deep = replace(config, num_layers=HOPS, windows=(None,) * 9)
    shape = Shape(deep, compute, make_mesh(1), chunk)
    return Programs(shape, Joint(programs.population, ends, None, compute))


def population(lengths: list[int], seed: int = 3) -> Values:
    _, space = miniature("ties")
    rng = np.random.default_rng(seed)
    merge = space.decode(rng.random((len(lengths), space.dimension), np.float32))
    layers = rng.integers(0, 9, (len(lengths), HOPS)).astype(np.int32)
    layers[:, 0] = MERGED
    factors = rng.uniform(0.5, 1.5, layers.shape).astype(np.float32)
    path = {"layers": layers, "factors": factors, "depth": np.array(lengths, np.int32)}
    return {PREFIX + name: array for name, array in merge.items()} | path


def one(values: Values, member: int) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array[member]) for name, array in values.items()}


def written_out(programs: Programs, values: Values, member: int) -> Stored:
    """A path as a model in memory: every layer scaled and rounded on its own, from the whole merge in float32."""
    own = programs.population
    assert isinstance(own, Joint)
    mine = one(values, member)
    of_merge = {name.removeprefix(PREFIX): array for name, array in mine.items() if name.startswith(PREFIX)}
    candidate = own.merging.candidate(of_merge)
    assert isinstance(candidate, Merged) and candidate.dtype == jnp.float32
    whole = jax.device_get(jax.jit(materialised)(candidate))
    experts = own.merging.bank.experts
    layers, factors = np.asarray(mine["layers"]), np.asarray(mine["factors"])
    found: dict[str, Any] = {}
    for path, merged in whole.items():
        if not path.startswith("layers."):
            found[path] = jnp.asarray(merged).astype(own.dtype)
            continue
        stored = [np.asarray(array) for array in experts[path]]
        wide = [a.view(ml_dtypes.bfloat16).astype(np.float32) if a.dtype == np.uint16 else a for a in stored]
        rows = np.concatenate([*wide, merged])[layers[: int(mine["depth"])]]
        if part_of(path) == "output":
            rows = rows * factors[: len(rows)].reshape(-1, *[1] * (rows.ndim - 1))
        found[path] = jnp.asarray(rows).astype(own.dtype)
    return Stored(found)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_layer_is_merged_in_float32_and_rounded_once(dtype: Any) -> None:
    programs = joint(dtype, jnp.dtype(dtype))
    values = population([HOPS])
    expected = written_out(programs, values, 0)
    for weights in ("candidate", "resident"):
        path: Weights = jax.jit(getattr(programs.population, weights))(one(values, 0))
        layer = jax.jit(lambda path, hop: path.layer(hop))
        for hop in range(HOPS):
            for name, array in layer(path, jnp.int32(hop)).items():
                np.testing.assert_array_equal(array, expected.params[f"layers.{name}"][hop], err_msg=f"{hop} {name}")
        rows = path.rows("embed_tokens.weight", jnp.array([5, 2]))
        np.testing.assert_array_equal(rows, expected.params["embed_tokens.weight"][jnp.array([5, 2])])
        np.testing.assert_array_equal(path.whole("norm.weight"), expected.params["norm.weight"])


def test_the_ends_may_be_a_models_own() -> None:
    programs = joint(ends=1)
    own = programs.population
    assert isinstance(own, Joint)
    path = own.candidate(one(population([3]), 0))
    np.testing.assert_array_equal(path.whole("norm.weight"), own.merging.bank.experts["norm.weight"][1])
    block = path.block("embed_tokens.weight", jnp.int32(30), 7)
    np.testing.assert_array_equal(block, own.merging.bank.experts["embed_tokens.weight"][1][30:37])


@pytest.fixture(scope="module")
def programs() -> Programs:
    return joint()


def test_scores_and_texts_are_those_of_the_path_written_out(programs: Programs) -> None:
    values, data, prompts = population([2, 7]), batch(), batch(((3, 8),), left=True)
    scores = programs.candidates(values).likelihood(data)
    texts = programs.candidates(values).generate(prompts, 4, (1, 2))
    [rows] = prompts.buckets
    for member, depth in enumerate((2, 7)):
        stock = written_out(programs, values, member)
        config = replace(programs.shape.config, num_layers=depth)
        for bucket in data.buckets:
            tokens = (jnp.asarray(bucket.tokens), jnp.asarray(bucket.valid), jnp.asarray(bucket.counted))
            expected = sequence_log_likelihood(stock, config, *tokens, dtype=jnp.float32)
            np.testing.assert_allclose(scores[member, bucket.index], expected, rtol=1e-5)
        options: dict[str, Any] = {"max_new_tokens": 4, "stop_ids": (1, 2), "dtype": jnp.float32}
        expected = generate(stock, config, jnp.asarray(rows.tokens), jnp.asarray(rows.valid), **options)
        np.testing.assert_array_equal(texts[member, rows.index], expected)


def test_one_compilation_serves_all_lengths_and_a_vmapped_chunk_is_right(programs: Programs) -> None:
    data = batch()
    values = population([1 + i % HOPS for i in range(8)])
    programs.candidates(population([3])).likelihood(data)
    with counted() as compilations:
        one_by_one = programs.candidates(values).likelihood(data)
    assert compilations.count == 0 and len(np.unique(one_by_one[:, 0])) == 8
    shape = programs.shape
    together = Programs(Shape(shape.config, shape.dtype, shape.mesh, 4), programs.population)
    np.testing.assert_allclose(together.candidates(values).likelihood(data), one_by_one, rtol=2e-5)
