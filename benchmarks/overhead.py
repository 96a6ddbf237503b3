"""What a search spends besides scoring: ask, decode, rank, log, tell; and what it compiles after the first generation.

    python benchmarks/overhead.py

The demo's search, 30 generations of 16: 0.3M parameters, so that a candidate costs little and the overhead shows most.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import write

from jaxmerge.demo.run import CONFIG
from jaxmerge.runtime.compilations import counted
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.progress import Progress

GENERATIONS = 30


def main() -> None:
    scoring: list[float] = []
    ends: list[tuple[str, float, int]] = []

    class Timed(ParameterEngine):
        def evaluate(self, *arguments: Any, **options: Any) -> list[Any]:
            started = time.perf_counter()
            try:
                return super().evaluate(*arguments, **options)
            finally:
                scoring.append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as root, counted() as compilations:

        def ended(progress: Progress) -> None:
            ends.append((progress.stage, time.perf_counter(), compilations.count))

        overrides = [f"search.generations={GENERATIONS}", "search.baselines=[]", "search.start=center"]
        evolve(CONFIG, Path(root) / "run", overrides=overrides, progress=ended, build=Timed)
    own = [(moment, count) for stage, moment, count in ends if stage == "parameter"]
    generations = np.diff([moment for moment, _ in own])
    share = 1 - np.array(scoring[1 : len(own)]) / generations
    write(
        "overhead",
        {
            "generation_seconds": float(np.median(generations)),
            "overhead_share": float(np.median(share)),
            "overhead_seconds": float(np.median(share * generations)),
            "compilations_after_the_first_generation_was_told": own[-1][1] - own[1][1],
        },
    )


if __name__ == "__main__":
    main()
