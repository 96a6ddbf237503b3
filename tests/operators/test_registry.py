import jax.numpy as jnp
import numpy as np
import pytest

from jaxmerge.errors import InputError
from jaxmerge.operators import OPERATORS, merge_tensor, operator
from jaxmerge.operators.function import from_function
from jaxmerge.operators.markdown import table


def test_every_operator_answers_to_its_name():
    assert all(operator(name) is found and found.name == name for name, found in OPERATORS.items())


def test_unknown_name_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown operator 'tyes'; did you mean 'ties'\?"):
        operator("tyes")
    with pytest.raises(InputError, match="there are: arcee_fusion, breadcrumbs, breadcrumbs_ties"):
        operator("zzz")


def test_module_reference():
    assert operator("jaxmerge.operators.ties:OPERATOR") is OPERATORS["ties"]


@pytest.mark.parametrize("name", ["no_such_module:x", "jaxmerge.operators.ties:absent", "json:__doc__", ":", "json:"])
def test_bad_reference(name):
    with pytest.raises(InputError, match="operator "):
        operator(name)


def test_entry_points_are_found(monkeypatch):
    class Entry:
        name, value = "mine", "jaxmerge.operators.slerp:OPERATOR"

    monkeypatch.setattr("jaxmerge.operators.registry.entry_points", lambda group: [Entry])
    assert operator("mine") is OPERATORS["slerp"]
    with pytest.raises(InputError, match=r"did you mean 'mine'\?"):
        operator("mina")


def loudest(base, sources, weight: list[float], strength=2.0, halve=False):
    """The largest weighted task vector."""
    updates = jnp.stack([weight[i] * (source - base) for i, source in enumerate(sources)])
    return base + strength * jnp.where(halve, 0.5, 1.0) * updates[jnp.argmax(jnp.abs(updates).sum(axis=(1, 2)))]


def test_a_function_is_an_operator():
    own = from_function(loudest, "mine:loudest")
    assert own.needs_base and own.scope == "tensor" and own.summary == "The largest weighted task vector."
    declared = [(p.name, p.default, p.kind, p.per_source) for p in own.parameters]
    assert declared == [
        ("weight", None, "number", True),
        ("strength", 2.0, "number", False),
        ("halve", False, "flag", False),
    ]
    base, one, two = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32), np.full((2, 3), 4, np.float32)
    merged = merge_tensor(own, base, [one, two], {"weight": [1.0, 0.5]}, tensor="w", seed=0)
    np.testing.assert_array_equal(merged, np.full((2, 3), 4.0))


@pytest.mark.parametrize(
    "function", [lambda x: x, lambda: 0, lambda base: base, lambda sources, *rest: 0, lambda sources, a="b": 0]
)
def test_a_function_of_another_form_is_refused(function):
    with pytest.raises(InputError, match="operator 'mine'"):
        from_function(function, "mine")


def test_a_function_that_changes_the_shape_is_refused():
    own = from_function(lambda sources: sources[0][:1], "mine")
    with pytest.raises(InputError, match=r"made \(1, 2\) of tensors of shape \(3, 2\)"):
        merge_tensor(own, None, [np.zeros((3, 2), np.float32)], {}, tensor="w", seed=0)


def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_operator.py").write_text("def merge(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"cannot import module 'broken_operator' of 'broken_operator:merge': invalid syntax"
    with pytest.raises(InputError, match=message):
        operator("broken_operator:merge")


def test_every_parameter_says_what_it_means():
    for found in OPERATORS.values():
        assert found.summary and all(p.meaning for p in found.parameters)
        assert len({p.name for p in found.parameters}) == len(found.parameters)


def test_the_table_lists_every_operator_and_parameter():
    lines = table().splitlines()
    assert len(lines) == 2 + len(OPERATORS)
    for line, found in zip(lines[2:], OPERATORS.values(), strict=True):
        assert line.startswith(f"| `{found.name}` |") and line.count("|") == 6
        assert all(f"`{p.name}`" in line for p in found.parameters)
    assert "`density` per model (1, in [0, 1])" in table() and "| base + 1 |" in table()
