"""A recipe found by gradient against CMA-ES: forward passes until the best likelihood that CMA-ES reaches.

    python benchmarks/gradient.py                   # 3 search seeds of CMA-ES, the same steps of Adam

The models and data of `jaxmerge demo`; the objective is the likelihood of the reference answers, which is what both are
told of. A gradient counts for three forward passes, the first of which gives the candidate's score.
Its learning rate is the best of 0.03, 0.06 and 0.1 on seed 0.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from machine import write

from jaxmerge.demo.run import CONFIG, cores

CMA_ES = {"algorithm": "CMA_ES", "population": 16, "generations": 40}
ADAM = {"algorithm": "adam", "generations": 40, "options": {"learning_rate": 0.06}, "population": "auto"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))  # before jax starts
    with tempfile.TemporaryDirectory() as root:
        adam = searched(ADAM, 0, Path(root) / "adam")
        runs = {seed: searched(CMA_ES, seed, Path(root) / str(seed)) for seed in arguments.seeds}
        found = {"adam": described(adam), "cma_es": [{"seed": s} | against(run, adam) for s, run in runs.items()]}
    write("gradient", found)


def searched(search: dict[str, Any], seed: int, out: Path) -> Any:
    from jaxmerge import evolve
    from jaxmerge.documents import Document

    config = dict(Document.read(CONFIG).data)
    home = CONFIG.parent
    config["models"] = {name: str(home / ref) for name, ref in config["models"].items()}
    config["base"] = str(home / config["base"])
    [objective] = config["objectives"]
    data = {split: str(home / file) for split, file in objective["data"].items()}
    kept = {key: objective[key] for key in ("name", "prompt", "answer")}
    config["objectives"] = [kept | {"kind": "likelihood", "data": data}]
    return evolve(config | {"search": search | {"seed": seed, "start": "baseline", "baselines": ["uniform"]}}, out)


def described(run: Any) -> dict[str, Any]:
    return {key: run.summary[key] for key in ("best_score", "test_score", "test_interval", "seconds")}


def against(cma: Any, adam: Any) -> dict[str, Any]:
    """CMA-ES's best on the search data, and after how many forward passes Adam was there."""
    best = max(r.score for g in cma.history.stage("parameter") for r in g.results if r.score is not None)
    steps = [step.results[0] for step in adam.history.stage("parameter")]
    there = next((n + 1 for n, step in enumerate(steps) if step.score is not None and step.score >= best), None)
    forwards = cma.history.forwards("parameter")
    spent = None if there is None else sum(step.forwards for step in steps[:there])
    share = None if spent is None else spent / forwards
    return described(cma) | {"forwards": forwards, "adam_steps": there, "adam_forwards": spent, "share": share}


if __name__ == "__main__":
    main()
