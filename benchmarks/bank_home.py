"""The memory of a generation by where its sources lie: the same candidates over a bank on the device and on the host.

    python benchmarks/bank_home.py

Each home runs in a process of its own. Counted is anonymous memory (`Anonymous` of /proc/self/smaps_rollup, sampled
every 5 ms): pages of mapped files, which the system takes back when it needs them, are not in it; the arrays of jax's
CPU device are, copies of a layer's sources among them. What the process has before the sources are opened is taken off.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HOMES = ("device", "host")
EXPERTS, CANDIDATES, TEXTS, LENGTH = 3, 4, 4, 256
OPERATOR = "task_arithmetic"


def write_sources(folder: Path) -> None:
    """SmolLM2-135M's shape, a base and experts near it, in float32."""
    from safetensors.numpy import save_file
    from smollm2_shape import CONFIG, sources

    base, experts = sources(EXPERTS, "float32")
    for name, source in {"base": base, **{f"m{i}": expert for i, expert in enumerate(experts)}}.items():
        (folder / name).mkdir()
        save_file(source.tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(CONFIG))


class Peak:
    """Anonymous bytes of this process: the most since `start`, beyond what there was then."""

    def __enter__(self) -> "Peak":
        self.base = self.most = _anonymous()
        self._ends = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._watching.join()

    def _watch(self) -> None:
        while not self._ends.wait(0.005):
            self.most = max(self.most, _anonymous())

    @property
    def bytes(self) -> int:
        return self.most - self.base


def _anonymous() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def measure(home: str, folder: Path) -> dict[str, object]:
    """One generation after another that compiles: the peak of all, and the seconds of the second."""
    import jax
    import numpy as np
    from smollm2_shape import PARAMETERS, shape

    from jaxmerge.converters.checkpoint import Checkpoint
    from jaxmerge.objectives.interface import Batch, Bucket
    from jaxmerge.operators.registry import operator
    from jaxmerge.runtime.compilations import counted
    from jaxmerge.runtime.mesh import make_mesh
    from jaxmerge.search.engines.merger import Merger
    from jaxmerge.search.engines.needs import needs_of
    from jaxmerge.search.engines.sources import Models
    from jaxmerge.spaces.groups import Granularity, Groups

    config, table = shape()
    opened = {path.name: Checkpoint.open(path) for path in sorted(folder.iterdir())}
    base = opened.pop("base")
    models = Models(opened, base, folder, config, table, {})
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (TEXTS, LENGTH)).astype(np.int32)
    everywhere = np.ones(tokens.shape, bool)
    batch = Batch((Bucket(tokens, everywhere, everywhere & (np.arange(LENGTH) > 0), np.arange(TEXTS)),), TEXTS)
    chosen, dtype, groups = operator(OPERATOR), np.dtype(np.float32), Groups.of(table, Granularity())
    headers = {name: source.tensors for name, source in {"base": base, **opened}.items()}
    needs = needs_of(config, table, headers, dtype, chunk=1, operator=chosen, texts=[[batch]])
    count = len(groups.names)
    chosen_values = {p.name: float(PARAMETERS.get(p.name, p.default or 0.0)) for p in chosen.parameters}
    grid = {p.name: np.array([chosen_values[p.name]]) for p in chosen.parameters if p.gridded}
    shapes = {p.name: (CANDIDATES, count, *(EXPERTS,) * p.per_source) for p in chosen.parameters}
    values = {name: np.full(shape, chosen_values[name], np.float32) for name, shape in shapes.items()}
    values["weight"] *= np.linspace(0.5, 1.5, CANDIDATES, dtype=np.float32)[:, None, None]
    with Peak() as loading:
        merger = Merger(models, dtype, make_mesh(1, 1, jax.devices()[:1]), 0, home, 2**40)
        programs = merger.programs(merger.merging(chosen, grid, groups))
    with Peak() as first, counted() as compiled:
        scores = programs.candidates(values).likelihood(batch)
    with Peak() as second, counted() as again:
        started = time.perf_counter()
        programs.candidates(values).likelihood(batch)
        seconds = time.perf_counter() - started
    return {
        "home": home,
        "scores": scores.tolist(),
        "loading_mb": loading.bytes / 1e6,
        "peak_mb": (max(first.most, second.most) - loading.base) / 1e6,
        "second_peak_mb": (second.most - loading.base) / 1e6,
        "seconds": seconds,
        "compilations": [compiled.count, again.count],
        "bank_mb": needs.bank / 1e6,
        "two_layers_mb": 2 * needs.layer / 1e6,
        "waiting_mb": CANDIDATES * needs.stream / 1e6,
        "activations_mb": needs.activations / 1e6,
        "logits_mb": needs.logits / 1e6,
        "merged_layer_mb": needs.merged / 1e6,
        "ends_mb": needs.ends / 1e6,
        "device": jax.devices()[0].device_kind,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", choices=HOMES)
    parser.add_argument("--sources", type=Path)
    arguments = parser.parse_args()
    if arguments.home:
        print(json.dumps(measure(arguments.home, arguments.sources)))
        return
    from machine import write

    with tempfile.TemporaryDirectory() as scratch:
        write_sources(Path(scratch))
        rows = []
        for home in HOMES:
            command = [sys.executable, __file__, "--home", home, "--sources", scratch]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    scores = [row.pop("scores") for row in rows]
    setting = {"operator": OPERATOR, "experts": EXPERTS, "candidates": CANDIDATES, "texts": TEXTS, "length": LENGTH}
    write("bank_home", {"setting": setting, "same_scores": scores[0] == scores[1], "homes": rows})


if __name__ == "__main__":
    main()
