"""The search examples dealt into blocks, and what is known of a candidate that was scored on some of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.result import Result


@dataclass(frozen=True)
class Blocks:
    """How the search examples are dealt. sizes: how many of each objective there are; together they make `count`
    blocks, of which everyone is scored on the `first`."""

    sizes: Mapping[str, int]
    count: int
    first: int

    @classmethod
    def of(cls, config: EvolveConfig, engine: Engine) -> "Blocks":
        """As the config has them. Every block holds examples of every objective, of those with fewer fewer."""
        wanted = config.search.evaluation
        block, first = wanted.block or wanted.subset, wanted.first or wanted.subset
        assert block and first
        sizes = {
            objective.name: min(objective.sample or math.inf, engine.examples[objective.name]["search"])
            for objective in config.objectives
        }
        most = max(sizes.values())
        count = int(min(math.ceil(most / block), *sizes.values()))
        return cls({k: int(v) for k, v in sizes.items()}, count, math.ceil(first / (most / count)))


class Entry:
    """What is known of a candidate. left: see `Result`."""

    def __init__(self) -> None:
        self.parts: list[Result] = []
        self.left: int | None = None

    def add(self, part: Result) -> None:
        self.parts.append(part)

    @property
    def failed(self) -> bool:
        return any(part.score is None for part in self.parts)

    @property
    def seen(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for part in self.parts:
            for name, values in (part.examples or {}).items():
                found[name] = np.where(np.isnan(values), found[name], values) if name in found else values
        return found

    def result(self, weights: Mapping[str, float]) -> Result:
        seconds = sum(part.seconds for part in self.parts)
        failed = next((part for part in self.parts if part.score is None), None)
        if failed is not None:
            return replace(failed, seconds=seconds)
        seen = self.seen
        scores = {name: float(values[np.isfinite(values)].mean(dtype=np.float64)) for name, values in seen.items()}
        counts = [sum(int(np.isfinite(v).sum()) for v in (part.examples or {}).values()) for part in self.parts]
        return Result(
            score=sum(weights[name] * score for name, score in scores.items()),
            tie=float(np.average([part.tie for part in self.parts], weights=counts)),
            scores=dict(scores),
            seconds=seconds,
            seen=seen,
            left=self.left,
        )
