"""The loop over a history: log, replay, resume."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.registry import Algorithm, algorithm
from jaxmerge.search.history import Generation, History, decimals
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.progress import Tally
from jaxmerge.search.ranking import best_score
from jaxmerge.search.result import Result
from jaxmerge.search.snapshot import Snapshots


class Quadratic:
    """Scores by distance, in steps with ties; one candidate fails. Stops after `patience` calls."""

    def __init__(self, patience: int | None = None) -> None:
        self.calls: list[int] = []
        self.patience = patience

    def __call__(self, genomes: np.ndarray, generation: int) -> list[Result]:
        if self.patience is not None and len(self.calls) >= self.patience:
            raise KeyboardInterrupt
        self.calls.append(generation)
        distances = ((genomes - 0.3) ** 2).sum(1)
        results = [Result(round(-float(d), 1), -float(d), {"q": -float(d)}, 0.01) for d in distances]
        results[generation % 5] = Result(float("nan"), float("inf"), {"q": float("nan")}, 0.01)
        return results


@cache
def shared(name: str) -> Algorithm:
    """One object a name: another one would compile anew."""
    return algorithm(name, 4, sigma=0.2)


def stage(name: str = "CMA_ES", generations: int = 6, seed: int = 0) -> Stage:
    return Stage("parameter", shared(name), np.full(4, 0.6, np.float32), seed, Limit(generations=generations), 0.1)


def run(file: Path, made: Stage, score: Quadratic, snapshots: Snapshots | None = None) -> History:
    history = History.read(file, made.algorithm.population)
    history.repair()
    search(made, score, history, snapshots)
    return history


def test_progress_is_that_of_all_generations_though_each_is_counted_once() -> None:
    def scored(score: float | None, left: int | None = None) -> Result:
        # Who left a race has a score of the first few examples only, and an estimate.
        return Result(score, 0.0, {"q": score}, 0.01, left=left, estimate=score if left else None)

    generations = [
        [scored(0.9, left=1), scored(None)],
        [scored(0.2), scored(0.8, left=2)],
        [scored(None), scored(None)],
        [scored(0.1), scored(0.4)],
    ]
    tally, everything = Tally(), []
    for number, results in enumerate(generations):
        tally.add(Generation("parameter", number, np.zeros((2, 1), np.float32), results))
        everything += results
        assert (tally.best, tally.candidates) == (best_score(everything), len(everything))
    assert (tally.best, tally.failed, tally.mean, tally.generations) == (0.4, 3, 0.25, 4)


@pytest.mark.parametrize("name", ["CMA_ES", "PSO"])
def test_an_interrupted_search_ends_with_the_same_history(tmp_path: Path, name: str) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    run(whole, stage(name), Quadratic())
    for cut in (
        b"",
        b'{"stage": "par',
        b'{"stage": "parameter", "generation": 3, "index": 0}',
        b"\n",
        b"\xff{\n",
    ):
        with pytest.raises(KeyboardInterrupt):
            run(parts, stage(name), Quadratic(patience=1))
        with parts.open("ab") as file:
            file.write(cut)
    # A process killed between two lines of a generation leaves only some of them.
    lines = parts.read_bytes().splitlines(keepends=True)
    parts.write_bytes(b"".join(lines[: 4 * 8 + 3]))
    score = Quadratic()
    run(parts, stage(name), score)
    assert score.calls == [4, 5]
    assert parts.read_bytes() == whole.read_bytes()


def test_a_record_has_every_field_and_floats_that_read_back(tmp_path: Path) -> None:
    made = stage(generations=2)
    history = run(tmp_path / "h.jsonl", made, Quadratic())
    records = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert len(records) == 2 * made.algorithm.population
    fields = ["stage", "generation", "index", "genome", "score", "tie", "scores", "seconds", "error"]
    assert all(list(record) == fields for record in records)
    first = history.generations[0]
    assert (
        np.array([r["genome"] for r in records[: len(first.results)]], np.float32).tobytes() == first.genomes.tobytes()
    )
    failed = records[0]
    assert failed["score"] is None and failed["tie"] is None and failed["error"] == "the score is nan"


def test_decimals_read_back_to_the_same_float32() -> None:
    values = np.random.default_rng(0).random(20000).astype(np.float32)
    values[:4] = [0.0, 1.0, np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))]
    text = json.dumps(decimals(values))
    assert np.array(json.loads(text), np.float32).tobytes() == values.tobytes()
    assert len(text) < 14 * len(values)


def test_a_snapshot_shortens_the_replay_and_changes_nothing(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    run(whole, stage(), Quadratic())
    with pytest.raises(KeyboardInterrupt):
        run(parts, stage(), Quadratic(patience=4), Snapshots(tmp_path / "state", "parameter", interval=0))
    made = stage()
    asked: list[int] = []

    def ask(key: Any, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        asked.append(generation)
        return shared("CMA_ES").ask(key, generation, state)

    watched = SimpleNamespace(
        population=made.algorithm.population,
        compares=made.algorithm.compares,
        init=made.algorithm.init,
        tell=made.algorithm.tell,
        ask=ask,
    )
    made = replace(made, algorithm=watched)
    run(parts, made, Quadratic(), Snapshots(tmp_path / "state", "parameter"))
    assert asked == [4, 5]
    assert parts.read_bytes() == whole.read_bytes()


def test_a_broken_or_foreign_snapshot_is_passed_over(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    run(whole, stage(), Quadratic())
    with pytest.raises(KeyboardInterrupt):
        run(parts, stage(), Quadratic(patience=4), Snapshots(tmp_path / "state", "parameter", interval=0))
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file() and file.name != "about.json":
            file.write_bytes(b"")
    run(parts, stage(), Quadratic(), Snapshots(tmp_path / "state", "parameter"))
    assert parts.read_bytes() == whole.read_bytes()
    fresh = History.read(parts, 8)
    assert Snapshots(tmp_path / "nowhere", "parameter").load((), fresh) is None


def test_a_history_of_another_config_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    run(file, stage(seed=0), Quadratic())
    with pytest.raises(InputError, match="generation 0 of 'parameter' holds other candidates"):
        run(file, stage(seed=1), Quadratic())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [*lines[:3], "{}\n", *lines[4:]], ":4: is no record"),
        (lambda lines: lines[1:], ":1: generation 0 of 'parameter' is out of order"),
        (lambda lines: [*lines[:9], *lines[10:]], "out of order"),
    ],
)
def test_a_history_that_was_tampered_with_names_the_line(
    tmp_path: Path, edit: Callable[[list[str]], list[str]], message: str
) -> None:
    file = tmp_path / "h.jsonl"
    run(file, stage(generations=3), Quadratic())
    file.write_text("".join(edit(file.read_text().splitlines(keepends=True))))
    with pytest.raises(InputError) as failed:
        History.read(file, 8)
    assert message in str(failed.value)


def test_limits() -> None:
    assert Limit(candidates=20).total(8) == 2 and Limit(candidates=3).total(8) == 1
    assert Limit(generations=5, candidates=100).total(8) == 5 and Limit(seconds=3.0).total(8) is None
    assert not Limit(candidates=3).reached(0, 8, 0.0) and Limit(candidates=3).reached(1, 8, 0.0)
    assert Limit(candidates=20).reached(2, 8, 0.0) and not Limit(candidates=24).reached(2, 8, 0.0)
    assert Limit(seconds=1.0).reached(1, 8, 1.5) and not Limit(seconds=1.0).reached(1, 8, 0.5)


def test_more_generations_go_on_where_the_last_run_ended(tmp_path: Path) -> None:
    run(tmp_path / "a.jsonl", stage(generations=6), Quadratic())
    run(tmp_path / "b.jsonl", stage(generations=3), Quadratic())
    run(tmp_path / "b.jsonl", stage(generations=6), Quadratic())
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_reading_takes_time_in_proportion_to_the_generations(tmp_path: Path) -> None:
    def steps(generations: int) -> int:
        """Lines of the package that run while a history of so many generations is read."""
        file = tmp_path / f"{generations}.jsonl"
        record = {"stage": "s", "index": 0, "genome": [0.5], "score": 1.0, "tie": 0.0, "scores": {}, "seconds": 0.1}
        lines = (json.dumps(record | {"generation": g, "error": None}) for g in range(generations))
        file.write_text("".join(line + "\n" for line in lines))
        count = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        sys.settrace(trace)
        try:
            history = History.read(file, 1)
        finally:
            sys.settrace(None)
        assert history.count("s") == generations
        return count

    assert steps(400) < 2.2 * steps(200)
