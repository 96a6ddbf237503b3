"""Run folders of every sort."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folder import CONFIG, KINSHIP, best_of, history_of, measurements_of, summary_of, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run(config=, history=, summary=, ...)` writes a run's folder and gives back its path."""
    return lambda **parts: write_run(tmp_path / "run", **parts)


@pytest.fixture
def finished(make_run: Callable[..., Path]) -> Path:
    return make_run(summary=summary_of(), best=best_of(), measurements=measurements_of(), kinship=KINSHIP)


@pytest.fixture
def summary() -> dict[str, Any]:
    return summary_of()


@pytest.fixture
def best() -> dict[str, Any]:
    return best_of()


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads(json.dumps(CONFIG))


@pytest.fixture
def finished_history() -> list[dict[str, Any]]:
    return history_of()


@pytest.fixture(scope="session")
def long_history() -> list[dict[str, Any]]:
    return history_of(generations=200)
