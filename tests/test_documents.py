"""The reader of YAML documents."""

from pathlib import Path

import pytest
from pydantic import Field

from jaxmerge.documents import Document, write_yaml
from jaxmerge.errors import InputError
from jaxmerge.strict import Strict

FILE = Path("f.yaml")


class Inner(Strict):
    size: int = 1


class Outer(Strict):
    name: str
    inner: Inner = Inner()
    many: list[Inner] = Field(default_factory=list)


def read(text: str) -> Document:
    return Document.parse(text, FILE)


def test_yaml_is_version_1_2() -> None:
    data = read("a: no\nb: 1e-3\nc: 2020-01-01\nd: 12:30:45\ne: true\nf: 010\ng:\n").data
    assert data == {"a": "no", "b": 1e-3, "c": "2020-01-01", "d": "12:30:45", "e": True, "f": 10, "g": None}
    assert type(data["b"]) is float and type(data["a"]) is str


BROKEN = ["a: 1\na: 2\n", "a: [1\n", "a: b: c\n", "a:\n\t- x\n", "a: *x\n", "--- 1\n--- 2\n"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_one_line_with_its_line_number(text: str) -> None:
    with pytest.raises(InputError, match=r"^f\.yaml:\d: [^\n]+$"):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ninner:\n  siz: 2\n", "f.yaml:3: inner: unknown key 'siz'; did you mean 'size'?"),
        ("nmae: x\n", "f.yaml:1: unknown key 'nmae'; did you mean 'name'?"),
        ("name: x\nmany:\n- {}\n- {size: two}\n", "f.yaml:4: many.1.size: input should be a valid integer, not 'two'"),
        ("inner: {}\n", "f.yaml: the key 'name' is missing"),
        ("- 1\n", "f.yaml: must be a mapping of keys to values"),
        ("", "f.yaml: must be a mapping of keys to values"),
    ],
)
def test_errors_name_line_and_key(text: str, message: str) -> None:
    with pytest.raises(InputError) as failed:
        read(text).validate(Outer)
    assert str(failed.value) == message


def test_overrides_reach_into_mappings_and_lists() -> None:
    document = read("name: x\nmany:\n- size: 1\n").override(["many.0.size=5", "inner.size=7", "name=no"])
    assert document.validate(Outer) == Outer(name="no", inner=Inner(size=7), many=[Inner(size=5)])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("inner", "write key=value"),
        ("many.3.size=1", "is a list of 1"),
        ("name.x=1", "'name' holds no keys"),
        ("inner.siz=1", "--set inner.siz: inner: unknown key 'siz'; did you mean 'size'?"),
        ("inner.size=x", "--set inner.size: input should be a valid integer, not 'x'"),
    ],
)
def test_a_wrong_override_is_an_error(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match="--set") as failed:
        read("name: x\nmany: [{size: 1}]\n").override([assignment]).validate(Outer)
    assert message in str(failed.value)


def test_what_is_written_is_read_again() -> None:
    data = {"a": "no", "b": 1e-3, "c": [1, 2.5, "1e-3"], "d": {"k": [{"x": None}]}, "s": "日本: x"}
    assert read(write_yaml(data)).data == data


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Document.read(tmp_path / "no.yaml")


def test_a_runs_config_is_at_home_where_it_came_from(tmp_path):
    run = tmp_path / "run" / "config.yaml"
    assert Document(run, {"models": {}}).home == tmp_path / "run"
    assert Document(run, {"origin": {"folder": str(tmp_path)}}).home == tmp_path
