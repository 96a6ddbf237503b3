"""A candidate's recipe selects the same values for every tensor as the genome did."""

import numpy as np
import pytest
from miniature import CONFIG

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.operators.registry import operator
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range
from jaxmerge.spaces.recipe import recipe


def resolved(setting: object, tensor: str) -> float:
    """mergekit's rule: a scalar, or the first filter that is a substring of the tensor's name."""
    if not isinstance(setting, list):
        return float(setting)  # type: ignore[arg-type]
    return next(float(row["value"]) for row in setting if row["filter"] in tensor)


@pytest.mark.parametrize("granularity", ["model", "layer", {"block": 2}, {"block": 2, "filters": ["self_attn"]}])
def test_every_tensor_gets_the_values_of_its_group(granularity: object) -> None:
    config = CONFIG | {"num_hidden_layers": 12}
    architecture = architecture_of(config)
    table = architecture.table(architecture.read(config))
    groups = Groups.of(table, Granularity.parse(granularity))
    settings = {"weight": Range(-0.3, 1.8), "density": Range(0.1, 1.0), "lambda": Range(0.5, 1.5)}
    space = ParameterSpace(operator("dare_ties"), ("a", "b"), groups, settings)
    values = space.decode(np.random.default_rng(0).random(space.dimension, dtype=np.float32))
    written = recipe(space.operator, values, groups, table, models=("m/a", "m/b"), base="m/base", out_dtype="bfloat16")
    assert written["merge_method"] == "dare_ties" and written["base_model"] == "m/base"
    assert [source["model"] for source in written["models"]] == ["m/a", "m/b"]
    for parameter in table:
        for layer, name in enumerate(parameter.names(table.num_layers)):
            group = np.atleast_1d(groups.members[parameter.path])[layer if parameter.stacked else 0]
            for k, source in enumerate(written["models"]):
                for key in ("weight", "density"):
                    got = np.float32(resolved(source["parameters"][key], name))
                    assert got == values[key][group, k], (name, key)
            assert np.float32(resolved(written["parameters"]["lambda"], name)) == values["lambda"][group]


def test_values_that_only_repeat_a_default_are_not_written() -> None:
    architecture = architecture_of(CONFIG)
    table = architecture.table(architecture.read(CONFIG))
    groups = Groups.of(table, Granularity())
    space = ParameterSpace(operator("ties"), ("a",), groups, {"weight": Range(0, 1)})
    values = space.decode(space.center())
    written = recipe(space.operator, values, groups, table, models=("a",), base="b", out_dtype="float32")
    assert written == {
        "merge_method": "ties",
        "base_model": "b",
        "models": [{"model": "a", "parameters": {"weight": 0.5}}],
        "dtype": "float32",
        "out_dtype": "float32",
    }
