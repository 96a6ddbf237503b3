"""What low-rank directions around the best merge add to it, against going on with the search for that merge.

    python benchmarks/low_rank.py --seeds 0 1 2

The models and data are those of the demo, scored by the likelihood of the reference solutions. `PS` searches the merge
of each layer for 40 generations of 16; `PS+LR` does so for 20, and spends the other 20 on the coefficients of 8
directions in each layer. The merge after 20 generations is scored beside them. Runs that the results hold already are
not made again.
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

GENERATIONS = 20
PARAMETERS = {
    "kind": "parameter",
    "operator": "task_arithmetic",
    "granularity": "layer",
    "parameters": {"weight": [-0.3, 1.8]},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "PS": {"space": PARAMETERS, "generations": 2 * GENERATIONS},
    "PS+LR": {"stages": [{"space": PARAMETERS}, {"space": {"kind": "low_rank"}}], "generations": GENERATIONS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))  # before jax starts
    file = RESULTS / "low_rank.json"
    rows = json.loads(file.read_text())["results"] if file.exists() else []
    done = {(row["search"], row["seed"]) for row in rows}
    for seed, name in product(arguments.seeds, SEARCHES):
        if (name, seed) not in done:
            with tempfile.TemporaryDirectory() as temporary:
                rows.append(one_run(name, seed, Path(temporary) / "run"))
            write("low_rank", sorted(rows, key=lambda row: (row["search"], row["seed"])))


def one_run(name: str, seed: int, out: Path) -> dict[str, Any]:
    from jaxmerge import evolve
    from jaxmerge.documents import Document

    config, home, space = dict(Document.read(CONFIG).data), CONFIG.parent, dict(SEARCHES[name])
    del config["space"]
    config["models"] = {key: str(home / ref) for key, ref in config["models"].items()}
    config["base"] = str(home / config["base"])
    data = {split: str(home / file) for split, file in config["objectives"][0]["data"].items()}
    solutions = {"kind": "likelihood", "prompt": "{question}", "answer": " {solution}", "data": data}
    config["objectives"] = [{"name": "solutions"} | solutions]
    search = {"population": 16, "generations": space.pop("generations"), "seed": seed, "baselines": []}
    run = evolve(config | space | {"search": search}, out)
    keys = ("best_score", "validation_score", "test_score", "test_interval", "candidates", "seconds")
    row = {"search": name, "seed": seed, **{key: run.summary[key] for key in keys}}
    merge = run.summary["baselines"].get("parameter")
    return row | ({} if merge is None else {"merge_test_score": merge["test_score"]})


if __name__ == "__main__":
    main()
