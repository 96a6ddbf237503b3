"""Settings, gradients and filters."""

from fractions import Fraction
from typing import Any

import pytest

from jaxmerge.recipe.settings import evaluate, parse_setting


def value(setting: Any, tensor: str = "model.layers.0.mlp.up_proj.weight", place: Fraction = Fraction(0)) -> Any:
    return evaluate(parse_setting(setting), tensor, place)


def test_a_scalar_is_itself_everywhere() -> None:
    assert value(0.3) == 0.3 and value(True) is True and value(2, place=Fraction(1)) == 2


def test_a_gradient_is_linear_between_its_values() -> None:
    assert [value([0, 1, 0.5], place=Fraction(i, 4)) for i in range(5)] == [0, 0.5, 1, 0.75, 0.5]


@pytest.mark.parametrize("layers", [2, 3, 7, 50, 97])
def test_a_gradient_with_a_value_a_layer_gives_back_these_values(layers: int) -> None:
    values = [0.1 + i / 3 for i in range(layers)]
    assert [value(values, place=Fraction(i, layers - 1)) for i in range(layers)] == values


def test_flags_are_not_interpolated() -> None:
    assert [value([True, False, True], place=Fraction(i, 4)) for i in range(5)] == [True, True, False, False, True]


def test_the_first_filter_that_matches_counts() -> None:
    setting = [{"filter": "mlp", "value": 1}, {"filter": "up_proj", "value": 2}, {"value": 3}]
    assert value(setting) == 1
    assert value(setting, "norm.weight") == 3
    assert value({"filter": "*", "value": [4]}) == 4


def test_no_match_is_no_value() -> None:
    assert value([{"filter": "self_attn", "value": 1}]) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ([], "at least one value"),
        (float("nan"), "must be finite"),
        ([1, float("inf")], "must be finite"),
        (None, "must be a number"),
        ({"filter": "a"}, "'value' is missing"),
        ({"filtr": "a", "value": 1}, "unknown key 'filtr'"),
        ({"filter": 3, "value": 1}, "a filter is a part of a tensor's name"),
        ([[1, 2], 3], "must be a number"),
        ({"value": {"value": 1}}, "must be a number"),
    ],
)
def test_nonsense_is_refused(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_setting(setting)
