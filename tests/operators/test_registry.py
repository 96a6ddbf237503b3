import pytest

from jaxmerge.errors import InputError
from jaxmerge.operators import OPERATORS, operator


def test_every_operator_answers_to_its_name():
    assert all(operator(name) is found and found.name == name for name, found in OPERATORS.items())


def test_unknown_name_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown operator 'tyes': did you mean ties\?"):
        operator("tyes")


def test_module_reference():
    assert operator("jaxmerge.operators.ties:OPERATOR") is OPERATORS["ties"]


@pytest.mark.parametrize("name", ["no_such_module:x", "jaxmerge.operators.ties:nothing_here", "json:loads", ":", "json:"])
def test_bad_reference(name):
    with pytest.raises(InputError, match="operator "):
        operator(name)
