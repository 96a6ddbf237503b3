"""An engine without models: a candidate is scored by its distance from a target, example by example.

Run as a script it evolves, so that a test can kill it: `fake_engine.py CONFIG OUT [GENERATIONS]`.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.reference import Location
from jaxmerge.search.baselines import Untuned, untuned
from jaxmerge.search.chunk import Timing
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Candidate, Measurement
from jaxmerge.search.evolve import evolve
from jaxmerge.search.result import Result

DIMENSION, EXAMPLES = 4, 40
BEST = np.array([0.2, 0.9, 0.4, 0.7], np.float32)
CONFIG = """\
models: {one: one, two: two}
base: base
space:
  operator: task_arithmetic
  parameters: {weight: [0.0, 1.0]}
objectives:
- name: near
  kind: likelihood
  data: {search: search.jsonl, validation: validation.jsonl, test: test.jsonl}
  text: "{text}"
search: {algorithm: CMA_ES, generations: 6, seed: 3}
"""


class FakeEngine:
    """Shares of `EXAMPLES` thresholds that a candidate's distance stays below; one candidate in seven fails."""

    dimension = DIMENSION
    positions = np.linspace(0, 1, DIMENSION)
    binary = range(0)
    splits: tuple[str, ...] = ("search", "validation", "test")
    tokens: Mapping[str, np.ndarray] = {"near": np.full(EXAMPLES, 3)}
    sampled = False
    approximates = False
    examples: Mapping[str, Mapping[str, int]] = {"near": dict.fromkeys(("search", "validation", "test"), EXAMPLES)}
    resolution = 1 / EXAMPLES
    weights: Mapping[str, float] = {"near": 1.0}
    chosen: Mapping[str, Any] = {
        "mesh": {"pop": 1, "model": 1},
        "bank": "device",
        "chunk": 1,
        "forward": "merged",
        "dtype": "float32",
        "cache": "float32",
    }
    compiles = 1
    devices = "1 x fake"
    placed = "1 x fake: bank device"
    pause = 0.0
    timings: Mapping[int, Timing] = {1: Timing(2.0, 1.0), 2: Timing(2.0, 1.5), 4: Timing(5.0, 4.0)}

    def __init__(self, config: EvolveConfig) -> None:
        self.config = config
        self.loaded = 0
        self.calls: list[tuple[str, int]] = []
        self.tried: list[int] = []
        self.locations = {name: Location(config.folder / name) for name in (*config.models, "base")}
        self.tokenizer = config.folder / "base"

    @property
    def baselines(self) -> tuple[Untuned, ...]:
        return untuned(self.config)

    @property
    def starts(self) -> tuple[Untuned, ...]:
        return self.baselines

    def adapted(self, folder: Path) -> dict[str, str]:
        return {}

    def plan(self, devices: str | None = None) -> dict[str, str]:
        return {"memory": "none"}

    def chunks(self, population: int) -> tuple[int, ...]:
        return (1, 2, 4)

    def timed(self, genomes: np.ndarray, chunk: int) -> Timing:
        assert self.loaded and len(genomes)
        self.tried.append(chunk)
        return self.timings[chunk]

    def use(self, chunk: int) -> None:
        self.chosen = self.chosen | {"chunk": chunk}

    def load(self) -> None:
        self.loaded += 1

    def identities(self, genomes: np.ndarray) -> list[bytes]:
        return [genome.tobytes() for genome in genomes]

    def evaluate(
        self, genomes: np.ndarray, split: str = "search", draw: int | None = None, exact: bool = False
    ) -> list[Result]:
        assert self.loaded
        self.calls.append((split, len(genomes)))
        time.sleep(self.pause)
        return [self._tried(genome, split) for genome in genomes]

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        genome = self._genome(candidate)
        self.calls.append((split, 1))
        time.sleep(self.pause)
        result = self._result(genome, split)
        return Measurement(result, {} if result.score is None else {"near": self._examples(genome, split)})

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        if isinstance(candidate, Untuned) and candidate.operator != "task_arithmetic":
            return None
        return np.full(DIMENSION, 0.5, np.float32) if candidate is None else self._genome(candidate)

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        values = [float(str(value)) for value in self._genome(candidate)]
        return {"merge_method": "fake", "parameters": {"weight": values}, "jaxmerge": {"groups": ["all"]}}

    def ingredients(self, candidate: Candidate) -> list[dict[str, Any]]:
        return []

    def export(self, candidate: Candidate, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.recipe(candidate)))

    def _genome(self, candidate: Candidate | Path) -> np.ndarray:
        if isinstance(candidate, Path):
            return np.full(DIMENSION, 0.5, np.float32)
        if isinstance(candidate, Untuned):
            weight = candidate.parameters.get("weight", 0.0)
            return np.full(DIMENSION, weight / len(candidate.sources), np.float32)
        assert isinstance(candidate, np.ndarray)
        return candidate

    def _examples(self, genome: np.ndarray, split: str) -> np.ndarray:
        seed = {"search": 0, "validation": 1, "test": 2}[split]
        thresholds = np.random.default_rng(seed).uniform(0, 1.2, EXAMPLES)
        distance = np.abs(genome - BEST).sum()
        return (distance < thresholds).astype(np.float32)

    def _tried(self, genome: np.ndarray, split: str) -> Result:
        if int(genome.view(np.uint32).sum()) % 7 == 0:
            return Result(None, 0.0, {"near": None}, 0.01, "it failed")
        return self._result(genome, split)

    def _result(self, genome: np.ndarray, split: str) -> Result:
        score = float(self._examples(genome, split).mean())
        return Result(score, -float(np.abs(genome - 0.5).sum()), {"near": score}, 0.01)


def write_config(folder: Path) -> Path:
    """A config and its files; returns the config."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("search", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(f'{{"text": "{split}"}}\n')
    for name in ("one", "two", "base"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(f'{{"name": "{name}"}}')
    (folder / "evolve.yaml").write_text(CONFIG)
    return folder / "evolve.yaml"


if __name__ == "__main__":
    FakeEngine.pause = 0.02
    evolve(sys.argv[1], sys.argv[2], overrides=sys.argv[3:], build=FakeEngine)
