"""Our own algorithms in the loop, killed and resumed, with snapshots and without."""

from pathlib import Path

import numpy as np
import pytest
from two_objectives import zdt1

from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.examples import Examples
from jaxmerge.search.history import History
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.result import Result
from jaxmerge.search.snapshot import Snapshots


class Interrupting:
    """Two objectives of two examples each; whole generations fail at first, one candidate later. Stops after `patience`
    calls."""

    def __init__(self, patience: int | None = None) -> None:
        self.calls: list[int] = []
        self.patience = patience

    def __call__(self, genomes: np.ndarray, generation: int) -> list[Result]:
        if self.patience is not None and len(self.calls) >= self.patience:
            raise KeyboardInterrupt
        self.calls.append(generation)
        results = []
        for index, (first, second) in enumerate(-zdt1(genomes)):
            if generation == 0 or index == generation % len(genomes):
                results.append(Result(None, 0.0, {}, 0.01, "failed"))
                continue
            examples = {"a": np.float32([first, first - 1]), "b": np.float32([second, second / 2])}
            scores: dict[str, float | None] = {n: float(v.mean(dtype=np.float64)) for n, v in examples.items()}
            results.append(Result(float(first + second), 0.0, scores, 0.01, examples=examples))
        return results


@pytest.mark.parametrize("name", ["nsga2", "cycleqd", "m2n2", "model_swarms"])
def test_an_interrupted_search_ends_with_the_same_history(tmp_path: Path, name: str) -> None:
    made = algorithm(name, 4, population=6, objectives=2, options={"archive": 8} if name == "m2n2" else {})
    stage = Stage("s", made, np.full(4, 0.5, np.float32), 0, Limit(generations=7), objectives=("a", "b"))

    def run(file: str, score: Interrupting, interval: float) -> None:
        history = History.read(tmp_path / file, 6)
        history.repair()
        snapshots = Snapshots(tmp_path / f"{file} state", "s", interval=interval)
        search(stage, score, history, snapshots, examples=Examples(tmp_path / f"{file} examples"))

    run("whole", Interrupting(), 60)
    for file, interval in (("replayed", 60.0), ("restored", 0.0)):
        for patience in (1, 3):
            with pytest.raises(KeyboardInterrupt):
                run(file, Interrupting(patience), interval)
        last = Interrupting()
        run(file, last, interval)
        assert last.calls == [4, 5, 6]
        assert (tmp_path / file).read_bytes() == (tmp_path / "whole").read_bytes()
