"""Genome <-> values: bounds, grids, groups and the way back."""

import numpy as np
import pytest

from jaxmerge.architectures.table import Parameter as Tensor
from jaxmerge.architectures.table import Table
from jaxmerge.errors import InputError
from jaxmerge.operators.registry import operator
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range

TABLE = Table(
    (
        Tensor("embed_tokens.weight", "model.embed_tokens.weight", (8, 4), ("vocab", "embed")),
        Tensor("layers.self_attn.q_proj.weight", "model.layers.{layer}.self_attn.q_proj.weight", (4, 4), ("a", "b")),
        Tensor("layers.mlp.up_proj.weight", "model.layers.{layer}.mlp.up_proj.weight", (6, 4), ("a", "b")),
        Tensor("norm.weight", "model.norm.weight", (4,), ("embed",)),
        Tensor("lm_head.weight", "lm_head.weight", (8, 4), ("vocab", "embed")),
    ),
    num_layers=4,
)


@pytest.mark.parametrize(
    ("granularity", "names"),
    [
        ("model", ("model",)),
        ("layer", ("embed_tokens", "layers.0", "layers.1", "layers.2", "layers.3", "norm", "lm_head")),
        ({"block": 3}, ("embed_tokens", "layers.0-2", "layers.3", "norm", "lm_head")),
        (
            {"block": 2, "filters": ["mlp"]},
            (
                "embed_tokens",
                *("layers.0-1.other", "layers.0-1.mlp", "layers.2-3.other", "layers.2-3.mlp"),
                *("norm", "lm_head"),
            ),
        ),
        (
            {"filters": ["self_attn", "mlp"]},
            ("embed_tokens", "layers.0-3.self_attn", "layers.0-3.mlp", "norm", "lm_head"),
        ),
    ],
)
def test_granularity_divides_the_model_into_named_groups(granularity: object, names: tuple[str, ...]) -> None:
    groups = Groups.of(TABLE, Granularity.parse(granularity))
    assert groups.names == names
    used = {int(i) for member in groups.members.values() for i in np.atleast_1d(member)}
    assert used == set(range(len(names)))


@pytest.mark.parametrize("value", ["layers", {"block": 0}, {"block": True}, {"blocks": 2}, {"filters": "mlp"}, {}, 3])
def test_a_granularity_that_means_nothing_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"space\.granularity"):
        Granularity.parse(value)


def test_a_filter_that_matches_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="attention"):
        Groups.of(TABLE, Granularity.parse({"filters": ["attention"]}))


def space(**settings: object) -> ParameterSpace:
    groups = Groups.of(TABLE, Granularity.parse("layer"))
    return ParameterSpace(operator("ties"), ("math", "ja"), groups, settings)  # type: ignore[arg-type]


def test_genes_run_from_the_lower_to_the_upper_bound() -> None:
    searched = space(weight=Range(-0.5, 1.5), density=0.5)
    assert searched.dimension == 2 * 7
    assert len(searched.genes) == searched.dimension
    low, high = searched.decode(np.stack([np.zeros(14), np.ones(14)]).astype(np.float32))["weight"]
    assert low.shape == (7, 2)
    assert (low == -0.5).all() and (high == 1.5).all()


def test_genes_know_where_in_the_model_they_act() -> None:
    searched = space(weight=Range(-0.5, 1.5), density=Range(0.1, 1.0))
    assert searched.positions.tolist() == [i / 6 for i in range(7) for _ in range(2)] * 2


def test_densities_fall_on_a_grid_of_exact_binary_fractions() -> None:
    searched = space(weight=1.0, density=Range(0.1, 1.0))
    genomes = np.random.default_rng(0).random((50, searched.dimension), dtype=np.float32)
    densities = searched.decode(genomes)["density"].astype(np.float64)
    grid = searched.grid(searched.operator.parameter("density"))
    assert np.isin(densities, grid).all()
    assert grid[0] >= 0.1 and grid[-1] == 1.0
    assert (grid * 128 == np.round(grid * 128)).all()


def test_encode_is_the_inverse_of_decode() -> None:
    searched = space(weight=Range(0.0, 2.0), density=Range(0.25, 1.0))
    genome = np.random.default_rng(1).random(searched.dimension, dtype=np.float32)
    values = searched.decode(genome)
    again = searched.decode(searched.encode(values))
    np.testing.assert_allclose(again["weight"], values["weight"], atol=1e-6)
    np.testing.assert_array_equal(again["density"], values["density"])


def test_the_center_is_each_settings_start_or_the_middle() -> None:
    searched = space(weight=Range(0.0, 2.0, init=0.8), density=Range(0.0, 1.0))
    values = searched.decode(searched.center())
    np.testing.assert_allclose(values["weight"], 0.8, rtol=1e-6)
    np.testing.assert_array_equal(values["density"], 0.5)


def test_a_space_without_a_searched_parameter_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to search"):
        space(weight=1.0)


def test_a_required_parameter_that_is_not_set_is_named() -> None:
    with pytest.raises(InputError, match="weight"):
        space(density=Range(0.1, 1.0))


def della(**settings: object) -> ParameterSpace:
    groups = Groups.of(TABLE, Granularity.parse("model"))
    return ParameterSpace(operator("della"), ("math", "ja"), groups, {"weight": 1.0, **settings})  # type: ignore[arg-type]


def test_combinations_that_the_operator_refuses_are_refused_before_the_search() -> None:
    assert della(density=Range(0.2, 0.8)).dimension == 2
    with pytest.raises(InputError, match=r"space\.parameters: density 0\.1.* with epsilon 0\.15 leaves the range"):
        della(density=Range(0.1, 0.8))
    with pytest.raises(InputError, match=r"with epsilon 0\.2"):
        della(density=Range(0.3, 0.8), epsilon=Range(0.0, 0.25))


def test_grids_of_two_parameters_stay_small() -> None:
    both = della(density=Range(0.2, 0.8), epsilon=Range(0.01, 0.15))
    grids = [both.grid(both.operator.parameter(name)) for name in ("density", "epsilon")]
    assert [len(grid) for grid in grids] == [39, 9]
    assert grids[0][0] >= 0.2 and grids[0][-1] <= 0.8 and grids[1][0] >= 0.01 and grids[1][-1] <= 0.15


def test_whole_numbers_have_a_grid_of_whole_numbers() -> None:
    groups = Groups.of(TABLE, Granularity.parse("model"))
    steps = ParameterSpace(operator("karcher"), ("math", "ja"), groups, {"max_iter": Range(1, 12)})
    np.testing.assert_array_equal(steps.grid(steps.operator.parameter("max_iter")), np.arange(1, 13))
    values = steps.decode(np.linspace(0, 1, 40, dtype=np.float32)[:, None])["max_iter"]
    assert set(values.ravel()) == set(range(1, 13))
