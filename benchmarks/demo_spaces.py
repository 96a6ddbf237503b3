"""The demo's task in every space: parameters, data flow, and one after the other, at the same budget.

    python benchmarks/demo_spaces.py                   # 3 search seeds

The models, data and objective are those of `jaxmerge demo`, with 640 candidates for each search: PS+DFS is a search in
parameter space like PS, and then one in data-flow space with its result in the pool and as the input. The paper finds
the order PS+DFS >= PS > DFS > parents. There is no random search here: `demo_seeds.py` has it. Runs that the results
hold already are not made again.
"""

import argparse
import json
import os
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from machine import RESULTS, write

from jaxmerge.demo.run import CONFIG, cores

PARAMETERS = {"kind": "parameter", "operator": "task_arithmetic", "granularity": "layer"}
PARAMETERS["parameters"] = {"weight": [-0.3, 1.8]}
GENERATIONS = 40


def dataflow(start: str, scale: tuple[float, float], included: dict[str, float]) -> dict[str, Any]:
    """Paths that start as a model and leave it by a few layers of the others."""
    return {
        "kind": "dataflow",
        "repeats": 3,
        "scales": "hop",
        "scale": list(scale),
        "input": start,
        "max_hops": 16,
        "included": included,
    }


def spaces() -> dict[str, dict[str, Any]]:
    """The keys of a config that say where it searches."""
    wide = dataflow("ja", (0.5, 1.5), {"input": 0.97725, "others": 0.05})
    # From a model that solves the task already: smaller steps, for most changes of its path lose what it can do.
    near = dataflow("parameter", (0.8, 1.2), {"input": 0.99, "others": 0.01})
    return {
        "PS": {"space": PARAMETERS},
        "DFS": {"space": wide},
        "PS+DFS": {"stages": [{"space": PARAMETERS}, {"space": near}]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--spaces", nargs="+", default=list(spaces()))
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))  # before jax starts
    file = RESULTS / "demo_spaces.json"
    rows = json.loads(file.read_text())["results"] if file.exists() else []
    done = {(row["space"], row["seed"]) for row in rows}
    for seed, name in product(arguments.seeds, arguments.spaces):
        if (name, seed) not in done:
            with tempfile.TemporaryDirectory() as temporary:
                rows.append(one_run(name, seed, Path(temporary) / "run"))
            write("demo_spaces", sorted(rows, key=lambda row: (row["space"], row["seed"])))


def one_run(name: str, seed: int, out: Path) -> dict[str, Any]:
    from jaxmerge import evolve
    from jaxmerge.documents import Document

    config = dict(Document.read(CONFIG).data)
    del config["space"]
    config["models"] = {key: str(CONFIG.parent / ref) for key, ref in config["models"].items()}
    config["base"] = str(CONFIG.parent / config["base"])
    for objective in config["objectives"]:
        objective["data"] = {split: str(CONFIG.parent / file) for split, file in objective["data"].items()}
    config["search"] |= {"generations": GENERATIONS, "seed": seed, "baselines": ["uniform"]}
    run = evolve(config | spaces()[name], out)
    keys = ("best_score", "validation_score", "test_score", "test_interval", "candidates", "seconds")
    row = {"space": name, "seed": seed, **{key: run.summary[key] for key in keys}}
    row["baselines"] = {key: parent["test_score"] for key, parent in run.summary["baselines"].items()}
    return row


if __name__ == "__main__":
    main()
