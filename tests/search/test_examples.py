"""Scores of examples beside the history, and what algorithms of several numbers a candidate are told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from jaxmerge.search.algorithms.registry import RandomSearch
from jaxmerge.search.examples import Examples
from jaxmerge.search.history import History
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.ranking import losses
from jaxmerge.search.result import Result


@dataclass(frozen=True)
class Listening(RandomSearch):
    """Random search that keeps what it was told."""

    several: Literal["objectives", "examples"] = "examples"
    archive: int = 0
    told: list[np.ndarray] = field(default_factory=list)

    def tell(self, key: Any, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        self.told.append(fitness)
        return state


class Counted:
    """Two objectives of 3 and 2 examples; candidate 1 fails. Counts its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, genomes: np.ndarray, generation: int) -> list[Result]:
        self.calls.append(generation)
        results = []
        for genome in genomes:
            examples = {"a": np.float32([genome[0], 1, 0]), "index": np.float32([genome[1], 0.5])}
            scores: dict[str, float | None] = {n: float(v.mean(dtype=np.float64)) for n, v in examples.items()}
            results.append(Result(scores["a"], 0.0, scores, 0.01, examples=examples))
        results[1] = Result(None, 0.0, {"a": None, "index": None}, 0.01, "failed")
        return results


def run(tmp_path: Path, generations: int, several: Literal["objectives", "examples"] = "examples") -> tuple[Any, Any]:
    listening, score = Listening(4, 2, several=several), Counted()
    history = History.read(tmp_path / "h.jsonl", 4)
    stage = Stage("s", listening, np.zeros(2, np.float32), 0, Limit(generations), objectives=("a", "index"))
    search(stage, score, history, examples=Examples(tmp_path / "examples"))
    return listening.told, score.calls


def test_examples_are_told_and_kept(tmp_path: Path) -> None:
    told, calls = run(tmp_path, 3)
    assert calls == [0, 1, 2] and told[0].shape == (4, 5) and told[0].dtype == np.float64
    assert np.isinf(told[0][1]).all() and np.isfinite(told[0][[0, 2, 3]]).all()
    assert (told[0][0, 1:3] == [-1, 0]).all()
    again, calls = run(tmp_path, 4)
    assert calls == [3]
    assert all((a == b).all() for a, b in zip(told, again, strict=False))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_lost_examples_are_evaluated_again(tmp_path: Path, damage: bytes | None) -> None:
    told, _ = run(tmp_path, 3)
    file = tmp_path / "examples" / "000001.npz"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    again, calls = run(tmp_path, 3)
    assert calls == [1]
    assert all((a == b).all() for a, b in zip(told, again, strict=True))


def test_examples_of_another_generation_are_not_taken(tmp_path: Path) -> None:
    run(tmp_path, 2)
    (tmp_path / "examples" / "000000.npz").replace(tmp_path / "examples" / "000001.npz")
    assert run(tmp_path, 2)[1] == [0, 1]


def test_objectives_are_told_as_losses(tmp_path: Path) -> None:
    told, _ = run(tmp_path, 1, "objectives")
    assert told[0].shape == (4, 2) and np.isinf(told[0][1]).all()
    partly = losses([Result(0.5, 0.0, {"a": 0.5, "index": None}, 0.0)], ("a", "index"))
    assert np.isinf(partly).all()
