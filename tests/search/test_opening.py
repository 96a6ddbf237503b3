"""What a search sets out from is a candidate too."""

import json
from pathlib import Path

import numpy as np
from fake_engine import BEST, FakeEngine, write_config

from jaxmerge.report.run_data import read_run
from jaxmerge.search.engine import Candidate
from jaxmerge.search.evolve import evolve


class AtItsBest(FakeEngine):
    """Starts at the best genome there is when told to start at a recipe."""

    def start(self, candidate: Candidate | Path | None) -> np.ndarray | None:
        return BEST if isinstance(candidate, Path) else super().start(candidate)


class Unseen(AtItsBest):
    """Its start is the worst on the search data, and the best on all others."""

    def _examples(self, genome: np.ndarray, split: str) -> np.ndarray:
        examples = super()._examples(genome, split)
        return examples * 0 if split == "search" and np.array_equal(genome, BEST) else examples


def test_the_start_is_compared_on_the_data_that_decides(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "start.yaml").write_text("{}\n")
    overrides = ["search.start=start.yaml", "search.generations=3", "search.baselines=[]"]
    run = evolve(config, tmp_path / "run", overrides=overrides, build=Unseen)
    assert run.summary["best"]["stage"] == "parameter_start" and run.summary["best_score"] == 0.0


def test_a_search_never_ends_below_its_start(tmp_path: Path) -> None:
    config, out = write_config(tmp_path), tmp_path / "run"
    (tmp_path / "start.yaml").write_text("{}\n")
    overrides = ["search.start=start.yaml", "search.generations=1"]
    run = evolve(config, out, overrides=overrides, build=AtItsBest)
    stages = [json.loads(line)["stage"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert stages[0] == "parameter_start" and stages.count("parameter_start") == 1
    assert run.summary["best"] == {"stage": "parameter_start", "generation": 0, "index": 0}
    assert run.summary["candidates"] == stages.count("parameter") == stages.count("random_search")
    best = read_run(out).best
    assert best is not None and np.array_equal(best, run.history.stage("parameter_start")[0].genomes[0])
    # It goes on, and is exported, like any other.
    before = (out / "history.jsonl").read_bytes()
    evolve(config, out, overrides=["search.start=start.yaml", "search.generations=2"], build=AtItsBest)
    assert (out / "history.jsonl").read_bytes().startswith(before)
    run.export(tmp_path / "start", ("parameter_start", 0, 0))
    assert (tmp_path / "start" / "config.json").exists()
