"""One CPU device against two on two cores: candidates a second of the demo's search, and whether scores are the same.

    python benchmarks/devices.py

Each number of devices has a process of its own, for it is chosen before JAX starts; they take turns, generation by
generation, so that what else the machine does meets both alike. The first of each, which compiles, is left out.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
from machine import write

GENERATIONS, POPULATION = 5, 16


def serve() -> None:
    """Scores a generation for every line that comes, and says the seconds and the scores."""
    from jaxmerge.demo.run import CONFIG
    from jaxmerge.search.engines.parameter import ParameterEngine
    from jaxmerge.search.resolved import read_config

    engine = ParameterEngine(read_config(CONFIG))
    engine.load()
    for line in sys.stdin:
        genomes = np.random.default_rng(int(line)).random((POPULATION, engine.dimension), np.float32)
        started = time.perf_counter()
        results = engine.evaluate(genomes)
        print(json.dumps([time.perf_counter() - started, [result.score for result in results]]), flush=True)


def main() -> None:
    served = {}
    for devices in (1, 2):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
        words = [sys.executable, __file__, "serve"]
        served[devices] = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    seconds: dict[int, list[float]] = {1: [], 2: []}
    equal = True
    for generation in range(GENERATIONS + 1):
        scores = []
        for devices, process in served.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{generation}\n")
            process.stdin.flush()
            taken, found = json.loads(process.stdout.readline())
            scores.append(found)
            if generation:
                seconds[devices].append(taken)
        equal &= scores[0] == scores[1]
    for process in served.values():
        process.communicate()
    rate = {devices: POPULATION / float(np.median(taken)) for devices, taken in seconds.items()}
    rounds = np.array(seconds[1]) / np.array(seconds[2])
    write(
        "devices",
        {
            "candidates_per_second": rate,
            "speedup": float(np.median(rounds)),
            "speedups": rounds.tolist(),
            "same_scores": equal,
        },
    )


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
