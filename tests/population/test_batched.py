"""A population that shares the weights it reads scores as its candidates do that are merged."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from miniature import batch, miniature

from jaxmerge.population.batched import Batching
from jaxmerge.population.programs import likelihoods
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.compilations import counted
from jaxmerge.spaces.parameter import ParameterSpace


def values_of(space: ParameterSpace, count: int) -> dict[str, np.ndarray]:
    return space.decode(np.random.default_rng(3).random((count, space.dimension), dtype=np.float32))


def batched(programs: Programs, chunk: int = 4) -> Programs:
    return Programs(replace(programs.shape, chunk=chunk, folded=True), Batching(programs.population))


@pytest.mark.parametrize(
    ("name", "dtype"), [("task_arithmetic", np.float32), ("linear", ml_dtypes.bfloat16), ("multislerp", np.float32)]
)
def test_scores_are_those_of_the_merged_road(name: str, dtype: type) -> None:
    programs, space = miniature(name, dtype=dtype)
    values, texts = values_of(space, 5), batch(((3, 8),))
    got = batched(programs).candidates(values).likelihood(texts)
    assert len(np.unique(got)) > 3
    np.testing.assert_allclose(got, programs.candidates(values).likelihood(texts), rtol=1e-5)


@pytest.fixture(scope="module")
def both() -> tuple[Programs, Programs, ParameterSpace]:
    programs, space = miniature("task_arithmetic")
    return programs, batched(programs), space


def test_texts_are_those_of_the_merged_road(both: tuple[Programs, Programs, ParameterSpace]) -> None:
    programs, together, space = both
    values, texts = values_of(space, 4), batch(((3, 8),), left=True)
    written = together.candidates(values).generate(texts, 5, (2,))
    assert len(np.unique(written)) > 3
    np.testing.assert_array_equal(written, programs.candidates(values).generate(texts, 5, (2,)))


def test_a_score_does_not_depend_on_the_population_it_was_in(both: tuple[Programs, Programs, ParameterSpace]) -> None:
    _, together, space = both
    values, texts = values_of(space, 7), batch(((3, 8),))
    scores = together.candidates(values).likelihood(texts)
    with counted() as compilations:
        for place in (0, 3, 6):
            alone = together.candidates({name: array[place : place + 1] for name, array in values.items()})
            np.testing.assert_array_equal(alone.likelihood(texts)[0], scores[place])
    assert compilations.count == 0


def test_all_candidates_share_one_product_with_each_source(both: tuple[Programs, Programs, ParameterSpace]) -> None:
    _, together, space = both
    texts = batch(((3, 8),))
    values = together.candidates(values_of(space, 4)).block(0)
    lowered = likelihoods.lower(together.shape, together.population, values, together.placed(texts)).as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line and "tensor<24x16xf32>" in line]
    # Gate and up of the base and of two experts: no candidate has a matrix of its own.
    assert len(products) == 6 and not any("x24x16xf32>" in line.replace("<24x16", "") for line in products)


def test_the_tokens_of_a_micro_batch_are_those_of_all_candidates(
    both: tuple[Programs, Programs, ParameterSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, together, space = both
    values, texts = values_of(space, 4), batch(((6, 8),))
    whole = together.candidates(values).likelihood(texts)
    monkeypatch.setattr("jaxmerge.population.runner.MICRO_TOKENS", 4 * 24)
    monkeypatch.setattr("jaxmerge.models.likelihood.LOGITS_AT_ONCE", 1)
    monkeypatch.setattr("jaxmerge.models.likelihood.SMALLEST_BLOCK", 16)
    again = Programs(together.shape, together.population)
    assert again.placed(texts)[0][0].shape == (2, 3, 8)
    np.testing.assert_allclose(again.candidates(values).likelihood(texts), whole, rtol=1e-5)
