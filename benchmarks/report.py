"""How long `report.html` of a run takes to build, and how large it is; and that reading a history is linear.

    python benchmarks/report.py

The run is made up, as large as real ones: a population of 32, 128 genes, 8 experts, 500 test examples with long texts.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import write

from jaxmerge.report.build import build
from jaxmerge.search.history import History

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from run_folder import CONFIG, best_of, history_of, measurements_of, summary_of, write_run

POPULATION, GENES = 32, 128


def run(folder: Path, generations: int) -> Path:
    """A run of so many generations, and as many of random search."""
    config = CONFIG | {"search": CONFIG["search"] | {"population": POPULATION, "generations": generations}}
    layers = [f"layers.{i}" for i in range(32)]
    generator = np.random.default_rng(0)
    best = best_of()
    best["jaxmerge"] |= {
        "groups": layers,
        "parameters": {name: generator.uniform(-0.3, 1.5, (32, 2)).tolist() for name in ("weight", "density")},
    }
    models = [f"expert{i}" for i in range(8)]
    cosine = np.corrcoef(generator.normal(size=(8, 64))).tolist()
    return write_run(
        folder,
        config=config,
        history=history_of(generations, POPULATION, GENES),
        summary=summary_of(),
        best=best,
        measurements=measurements_of(500, 400),
        kinship={"models": models, "cosine": cosine, "relative": [0.1] * 8, "share": 0.2},
    )


def measured(root: Path, generations: int) -> dict[str, Any]:
    folder = run(root / f"{generations}", generations)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        page = build(folder)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    history = History.read(folder / "history.jsonl", POPULATION)
    return {
        "generations": generations,
        "candidates": sum(len(generation.results) for generation in history.generations),
        "history_megabytes": (folder / "history.jsonl").stat().st_size / 1e6,
        "read_history_seconds": time.perf_counter() - started,
        "build_seconds": float(np.median(seconds)),
        "first_build_seconds": seconds[0],
        "page_megabytes": page.stat().st_size / 1e6,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        rows = [measured(Path(root), generations) for generations in (100, 200, 400)]
    write("report", rows)


if __name__ == "__main__":
    main()
