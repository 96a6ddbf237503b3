"""How long a user waits for nothing: `jaxmerge --help`, and `jaxmerge merge` of a tiny recipe, whole processes.

    python benchmarks/startup.py
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import write

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def seconds(*words: str, cwd: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-P", "-m", "jaxmerge", *words]
    subprocess.run(command, check=True, cwd=cwd, env=environment, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        cold = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(root) / "cache")}

        def merge(out: str) -> float:
            return seconds("merge", "ties/config.yaml", str(Path(root) / out), cwd=GOLDEN, environment=cold)

        seconds("--help", cwd=GOLDEN, environment=cold)
        result = {
            "help_seconds": float(np.median([seconds("--help", cwd=GOLDEN, environment=cold) for _ in range(7)])),
            "merge_seconds_without_a_compilation_cache": merge("first"),
            "merge_seconds": float(np.median([merge(f"out{i}") for i in range(5)])),
        }
    write("startup", result)


if __name__ == "__main__":
    main()
