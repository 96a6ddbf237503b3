"""An engine of two objectives without models: shares of thresholds that a candidate's distances to two targets stay
below. Run as a script it evolves, so that a test can kill it: `two_objectives.py CONFIG OUT [OVERRIDES]`."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fake_engine import CONFIG, EXAMPLES, FakeEngine, write_config

from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.registry import Algorithm
from jaxmerge.search.engine import Candidate, Measurement
from jaxmerge.search.evolve import evolve
from jaxmerge.search.keys import draw_key, stage_key
from jaxmerge.search.result import Result

FAR = """\
- name: far
  kind: likelihood
  data: {search: search.jsonl, validation: validation.jsonl, test: test.jsonl}
  text: "{text} again"
search: {algorithm: nsga2, generations: 6, seed: 3, population: 10}
"""
TARGETS = {"near": [0.2, 0.9, 0.4, 0.7], "far": [0.8, 0.3, 0.5, 0.1]}


class TwoObjectives(FakeEngine):
    weights: Mapping[str, float] = {"near": 0.75, "far": 0.25}
    examples: Mapping[str, Mapping[str, int]] = dict.fromkeys(TARGETS, FakeEngine.examples["near"])
    tokens: Mapping[str, np.ndarray] = dict.fromkeys(TARGETS, FakeEngine.tokens["near"])

    def _rights(self, genome: np.ndarray, split: str) -> dict[str, np.ndarray]:
        seed = {"search": 0, "validation": 1, "test": 2}[split]
        found = {}
        for i, (name, target) in enumerate(TARGETS.items()):
            thresholds = np.random.default_rng(seed + 10 * i).uniform(0, 1.5, EXAMPLES)
            found[name] = (np.abs(genome - np.float32(target)).sum() < thresholds).astype(np.float32)
        return found

    def _result(self, genome: np.ndarray, split: str) -> Result:
        examples = self._rights(genome, split)
        scores: dict[str, float | None] = {name: float(v.mean(dtype=np.float64)) for name, v in examples.items()}
        mean = sum(self.weights[name] * float(scores[name] or 0.0) for name in scores)
        return Result(mean, -float(np.abs(genome - 0.5).sum()), scores, 0.01, examples=examples)

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        self.calls.append((split, 1))
        result = self._result(self._genome(candidate), split)
        return Measurement(result, dict(result.examples or {}))

    def evaluate(
        self, genomes: np.ndarray, split: str = "search", draw: int | None = None, exact: bool = False
    ) -> list[Result]:
        time.sleep(self.pause)
        return super().evaluate(genomes, split, draw, exact)


def write_two(folder: Path, algorithm: str = "nsga2") -> Path:
    """A config of two objectives and its files; returns the config."""
    config = write_config(folder)
    config.write_text(CONFIG[: CONFIG.index("search: {")] + FAR.replace("nsga2", algorithm))
    return config


def zdt1(genomes: np.ndarray) -> np.ndarray:
    """Losses `[P, 2]` of Zitzler, Deb and Thiele's first problem (2000)."""
    first, rest = genomes[:, 0].astype(np.float64), genomes[:, 1:].astype(np.float64)
    g = 1 + 9 * rest.mean(axis=1)
    return np.stack([first, g * (1 - np.sqrt(first / g))], axis=1)


def front_of(made: Algorithm, generations: int, seed: int, dimension: int = 8) -> np.ndarray:
    """All losses of a search on `zdt1`, in which one candidate a generation fails, without those."""
    key = stage_key(seed, "parameter")
    state = made.init(draw_key(key, 0, "init"), np.full(dimension, 0.5, np.float32))
    found = []
    for g in range(generations):
        genomes, state = made.ask(draw_key(key, g, "ask"), g, state)
        genomes = reflect(genomes)
        assert genomes.shape == (made.population, dimension) and np.isfinite(genomes).all()
        losses = zdt1(genomes)
        losses[g % len(losses)] = np.inf
        found.append(losses)
        state = made.tell(draw_key(key, g, "tell"), g, genomes, losses, state)
    return np.concatenate([losses[np.isfinite(losses).all(axis=1)] for losses in found])


if __name__ == "__main__":
    FakeEngine.pause = 0.02
    evolve(sys.argv[1], sys.argv[2], overrides=sys.argv[3:], build=TwoObjectives)
