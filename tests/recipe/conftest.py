"""Plans of recipes that are written in a test, over the models of the golden folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jaxmerge.recipe.plan import Plan, make_plan
from jaxmerge.recipe.schema import load_recipes

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[str], Plan]:
    def from_text(text: str) -> Plan:
        file = tmp_path / "r.yaml"
        file.write_text(text)
        return make_plan(*load_recipes(file)[0])

    return from_text
