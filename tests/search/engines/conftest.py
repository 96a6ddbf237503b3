"""A candidate of a module's own `engine`, and what it is exported as."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def genome(engine: Any) -> np.ndarray:
    return np.random.default_rng(4).random(engine.dimension, np.float32)


@pytest.fixture(scope="module")
def exported(engine: Any, genome: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("exported") / "model"
    engine.export(genome, folder)
    return folder
