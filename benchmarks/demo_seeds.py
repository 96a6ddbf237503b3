"""The demo's result over search seeds and training seeds.

    python benchmarks/demo_seeds.py                      # the shipped models, 3 search seeds
    python benchmarks/demo_seeds.py --training-seed 1    # models trained anew from another seed, 3 search seeds

Each run is the shipped config through `jaxmerge.evolve`, with its own random-search control of equal budget. Scores are
shares of right answers; test is scored once, at the end of a run.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from machine import write

from jaxmerge.demo.run import CONFIG, cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--training-seed", type=int, default=0)
    parser.add_argument("--config", default=CONFIG.name, help="a config in the demo's folder")
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))  # before jax starts
    with tempfile.TemporaryDirectory() as temporary:
        config = CONFIG.with_name(arguments.config)
        if arguments.training_seed:
            config = trained_anew(arguments.training_seed, Path(temporary), config)
        rows = [one_run(config, seed, Path(temporary)) for seed in arguments.seeds]
    write(f"demo_seeds_{config.stem}_trained_{arguments.training_seed}", rows)


def trained_anew(seed: int, folder: Path, config: Path) -> Path:
    """The demo's config beside models trained from another seed."""
    from jaxmerge.demo import data, train

    data.write(folder / "data")
    train.save(train.train(seed), folder / "models")
    return Path(shutil.copy(config, folder))


def one_run(config: Path, seed: int, folder: Path) -> dict[str, Any]:
    from jaxmerge import evolve

    summary = evolve(config, folder / f"run-{seed}", overrides=[f"search.seed={seed}"]).summary
    keys = ("seed", "best_score", "validation_score", "test_score", "test_interval", "comparison", "seconds")
    kept = ("search_score", "test_score", "test_interval")
    return {
        **{key: summary[key] for key in keys},
        "baselines": {
            name: {key: row[key] for key in kept if key in row} for name, row in summary["baselines"].items()
        },
    }


if __name__ == "__main__":
    main()
