"""Screening by a surrogate against the same search without it: the score that both end with, and what it cost.

    python benchmarks/screening.py                    # 3 search seeds, 40 generations against 11
    python benchmarks/screening.py --seeds 0 --plain  # the plain search of a seed again, not from demo_spaces.json

The models, data and objective of `jaxmerge demo`. Cost is counted in forward passes: a candidate for one, a Jacobian
for three. Eleven generations of 16 with a Jacobian each are 209, which is 33% of the plain search's 640. The plain
searches are those of `demo_spaces.py` in parameter space.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, write

from jaxmerge.demo.run import CONFIG, cores

KEYS = ("best_score", "validation_score", "test_score", "test_interval", "candidates", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--generations", type=int, default=11)
    parser.add_argument("--candidates", type=int, default=1024)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))  # before jax starts
    rows = []
    for seed in arguments.seeds:
        plain = searched(seed, []) if arguments.plain else known(seed)
        wanted = [
            f"search.screening={{candidates: {arguments.candidates}}}",
            f"search.generations={arguments.generations}",
        ]
        rows.append({"seed": seed, "plain": plain, "screened": searched(seed, wanted)})
        rows[-1]["share"] = rows[-1]["screened"]["forwards"] / plain["forwards"]
        write("screening", {"candidates": arguments.candidates, "seeds": sorted(rows, key=lambda row: row["seed"])})


def known(seed: int) -> dict[str, Any]:
    """The search of `demo_spaces.py`."""
    rows = json.loads((RESULTS / "demo_spaces.json").read_text())["results"]
    [row] = [row for row in rows if (row["space"], row["seed"]) == ("PS", seed)]
    return {key: row[key] for key in KEYS} | {"forwards": row["candidates"]}


def searched(seed: int, overrides: list[str]) -> dict[str, Any]:
    from jaxmerge import evolve

    with tempfile.TemporaryDirectory() as folder:
        own = [*overrides, f"search.seed={seed}", "search.baselines=[uniform]"]
        run = evolve(CONFIG, Path(folder) / "run", overrides=own)
        best, course = 0.0, []
        for generation in run.history.stage("parameter"):
            best = max([best, *(result.score for result in generation.results if result.score is not None)])
            course.append(best)
        found = {key: run.summary[key] for key in KEYS} | {"forwards": run.history.forwards("parameter")}
        return found | {"best_so_far": course, "screening": run.summary.get("screening")}


if __name__ == "__main__":
    main()
