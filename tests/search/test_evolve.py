"""A whole run over a fake engine: its folder, killing and resuming it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, write_config

from jaxmerge.documents import Document
from jaxmerge.errors import CheckpointError, InputError, Interrupted, JaxmergeError
from jaxmerge.search.dry_run import plan
from jaxmerge.search.evolve import evolve
from jaxmerge.search.lock import locked
from jaxmerge.search.progress import Progress
from jaxmerge.search.result import Result
from jaxmerge.search.run import Run

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    evolve(config, out, build=FakeEngine)
    return out


def history(out: Path) -> list[dict[str, Any]]:
    """The lines of a history without their seconds."""
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_the_folder_holds_all_that_is_promised(config: Path, whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert {"config.yaml", "history.jsonl", "state", "best.yaml", "model", "summary.json", "log"} <= names
    assert not [name for name in names if name.endswith(".tmp") or name.startswith(".")]
    run = Run(whole, FakeEngine)
    summary, population = run.summary, run.config.search.population
    assert population == 8 and summary["candidates"] == 48 and summary["seed"] == 3
    assert list(summary["baselines"]) == [
        "one", "two", "base", "uniform", "task_arithmetic", "task_arithmetic 1/n", "ties", "dare_ties", "random_search",
    ]  # fmt: skip
    for row in (*summary["baselines"].values(), summary):
        low, high = row["test_interval"]
        assert low <= row["test_score"] <= high
    assert set(summary["comparison"]) == {"baseline", "difference", "interval"}
    strongest = max(row["test_score"] for row in summary["baselines"].values())
    assert summary["comparison"]["difference"] == pytest.approx(summary["test_score"] - strongest)
    kinds = {"parent": ("one", "two", "base"), "untuned": ("uniform", "ties"), "random_search": ("random_search",)}
    for kind, names in kinds.items():
        found = summary["comparisons"][kind]
        rival = summary["baselines"][found["baseline"]]["test_score"]
        assert rival >= max(summary["baselines"][name]["test_score"] for name in names)
        assert found["difference"] == pytest.approx(summary["test_score"] - rival)
    assert summary["tokens_per_candidate"] == 120
    stages = ["baselines", "parameter", "random_search", "validation", "test"]
    assert list(summary["seconds_by_stage"]) == stages
    assert summary["seconds"] == pytest.approx(sum(summary["seconds_by_stage"].values()))
    assert len(history(whole)) == 2 * 48
    assert [stage for stage in dict.fromkeys(r["stage"] for r in history(whole))] == ["parameter", "random_search"]
    assert summary["failed"] == sum(r["score"] is None for r in history(whole)[:48])


def test_the_best_recipe_is_the_one_chosen_on_validation(whole: Path) -> None:
    run = Run(whole, FakeEngine)
    place = run.summary["best"]
    genome = run.history.stage("parameter")[place["generation"]].genomes[place["index"]]
    assert run.best["parameters"]["weight"] == [float(str(x)) for x in genome]
    assert run.best["jaxmerge"]["scores"]["test"] == run.summary["test_score"]
    assert run.best["jaxmerge"]["groups"] == ["all"]
    engine = FakeEngine(run.config)
    engine.load()
    ranked = sorted((r for r in history(whole)[:48] if r["score"] is not None), key=lambda r: (-r["score"], -r["tie"]))
    finalists = [np.array(r["genome"], np.float32) for r in ranked[:10]]
    results = engine.evaluate(np.stack(finalists), "validation")
    best = max((r for r in results if r.score is not None), key=lambda r: (r.score, r.tie))
    assert run.summary["validation_score"] == best.score
    assert json.loads((whole / "model" / "config.json").read_text())["parameters"] == run.best["parameters"]


def test_the_resolved_config_says_what_auto_was(config: Path, whole: Path) -> None:
    data = Document.read(whole / "config.yaml").data
    assert data["search"]["population"] == 8 and data["search"]["algorithm"] == "CMA_ES"
    assert data["runtime"] == dict(FakeEngine.chosen)
    assert data["objectives"][0]["data"]["test"] == str(config.parent / "test.jsonl")
    assert data["models"]["one"] == str(config.parent / "one")
    assert data["origin"]["data"]["near"]["search"].startswith("xxh3:")
    assert set(data["origin"]["models"]) == {"one", "two", "base"}


def test_a_run_that_is_done_is_not_touched(config: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file() and "log" not in path.parts}
    evolve(config, whole, build=FakeEngine)
    same = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if same[path] != before[path]}
    assert changed <= {"config.yaml", "lock"}


def test_killed_at_any_moment_it_ends_with_the_same_history_and_best(config: Path, whole: Path, tmp_path: Path) -> None:
    out, dice = tmp_path / "killed", random.Random(0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SUPPORT / "fake_engine.py"), str(config), str(out)]
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        seen = len(history_bytes(out))
        # Somewhere after the process has done something new, or at the latest when it is through.
        while process.poll() is None and len(history_bytes(out)) == seen:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        with (out / "history.jsonl").open("ab") as file:
            file.write(dice.choice([b'{"stage": "parame', b"\n", b"\xff", b""]))
        if kills == 2:  # two kills by force, then to the end here
            break
    assert kills
    evolve(config, out, build=FakeEngine)
    assert history(out) == history(whole)
    assert (out / "best.yaml").read_bytes() == (whole / "best.yaml").read_bytes()
    assert (out / "model" / "config.json").read_bytes() == (whole / "model" / "config.json").read_bytes()
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, whole))
    for key in ("best_score", "validation_score", "test_score", "test_interval", "baselines", "comparison", "best"):
        assert ours[key] == theirs[key]


def history_bytes(out: Path) -> bytes:
    file = out / "history.jsonl"
    return file.read_bytes() if file.exists() else b""


class Stopping:
    """A progress callback that interrupts at its n-th call, as a signal does."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def __call__(self, event: Progress) -> None:
        self.patience -= 1
        if self.patience < 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


@pytest.mark.parametrize("patience", [0, 3, 9, 13, 20, 26])
def test_interrupted_anywhere_it_resumes(config: Path, whole: Path, tmp_path: Path, patience: int) -> None:
    out = tmp_path / "run"
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="the same command goes on") as stopped:
        evolve(config, out, build=FakeEngine, progress=Stopping(patience))
    assert stopped.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not (out / "summary.json").exists()
    evolve(config, out, build=FakeEngine)
    assert history(out) == history(whole)
    assert (out / "best.yaml").read_bytes() == (whole / "best.yaml").read_bytes()


def test_what_was_measured_is_not_measured_again(config: Path, tmp_path: Path) -> None:
    engines: list[FakeEngine] = []

    def build(config: Any) -> FakeEngine:
        engines.append(FakeEngine(config))
        return engines[-1]

    events: list[Progress] = []
    evolve(config, tmp_path / "run", build=build, progress=events.append)
    (tmp_path / "run" / "summary.json").unlink()
    evolve(config, tmp_path / "run", build=build)
    assert ("test", 1) in engines[0].calls and engines[1].calls == []
    assert {event.stage for event in events} >= {"baselines", "parameter", "random_search", "test", "export"}


def test_more_generations_go_on(config: Path, whole: Path, tmp_path: Path) -> None:
    evolve(config, tmp_path / "run", overrides=["search.generations=3"], build=FakeEngine)
    assert Run(tmp_path / "run", FakeEngine).summary["candidates"] == 24
    with pytest.warns(UserWarning, match=r"run: was started with search.generations: 3; it ends now with .*: 6$"):
        evolve(config, tmp_path / "run", build=FakeEngine)
    ours = sorted(history(tmp_path / "run"), key=lambda r: (r["stage"], r["generation"], r["index"]))
    assert ours == history(whole)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("search.seed=4", "search.seed: 3, now it is 4"),
        ("space.parameters.weight=[0.0, 0.9]", "space.parameters.weight.high: 1.0, now it is 0.9"),
        ("search.population=10", "search.population: 8, now it is 10"),
        ("search.start=center", "search.start: 'baseline', now it is 'center'"),
        ("objectives.0.weight=2.0", "objectives.0.weight: 1.0, now it is 2.0"),
        ("objectives.0.limit=2", "objectives.0.limit: not given, now it is 2"),
    ],
)
def test_another_config_is_refused_naming_the_key(config: Path, whole: Path, override: str, key: str) -> None:
    with pytest.raises(InputError) as failed:
        evolve(config, whole, overrides=[override], build=FakeEngine)
    assert key in str(failed.value) and failed.value.exit_code == 2


def test_changed_data_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    evolve(config, tmp_path / "run", overrides=["search.generations=1"], build=FakeEngine)
    (tmp_path / "config" / "search.jsonl").write_text('{"text": "other"}\n')
    with pytest.raises(InputError, match=r"origin\.data\.near\.search.*content has changed"):
        evolve(config, tmp_path / "run", build=FakeEngine)


def test_a_changed_tokenizer_or_start_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    recipe, tokenizer = config.parent / "start.yaml", config.parent / "base" / "tokenizer.json"
    recipe.write_text("merge_method: linear\n")
    few = ["search.generations=1", "search.start=start.yaml"]
    evolve(config, tmp_path / "run", overrides=few, build=FakeEngine)
    recipe.write_text("merge_method: ties\n")
    with pytest.raises(InputError, match=r"search\.start: .*content has changed"):
        evolve(config, tmp_path / "run", overrides=few, build=FakeEngine)
    recipe.write_text("merge_method: linear\n")
    tokenizer.write_text("{}")
    with pytest.raises(InputError, match=r"with tokenizer: .*content has changed"):
        evolve(config, tmp_path / "run", overrides=few, build=FakeEngine)
    tokenizer.unlink()
    evolve(config, tmp_path / "run", overrides=few, build=FakeEngine)


def test_a_run_can_be_resumed_from_a_moved_config(config: Path, whole: Path, tmp_path: Path) -> None:
    moved = write_config(tmp_path / "moved")
    assert evolve(moved, whole, build=FakeEngine).summary["candidates"] == 48
    assert evolve(whole / "config.yaml", whole, build=FakeEngine).summary["candidates"] == 48


def test_a_folder_that_is_no_run_is_refused_and_left_alone(config: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="exists and is not a run's folder"):
        evolve(config, tmp_path, build=FakeEngine)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        evolve(config, tmp_path / "thesis.txt", build=FakeEngine)


def test_wrong_input_writes_nothing(config: Path, tmp_path: Path) -> None:
    for override in ("search.algorithm=CMAES", "search.baselines=[unifrom]", "search.start=nowhere.yaml"):
        with pytest.raises(InputError):
            evolve(config, tmp_path / "run", overrides=[override], build=FakeEngine)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (CheckpointError("a weight is NaN"), {"crash.log"}),
        (JaxmergeError("process 1 on a: KeyError: 'x'"), {"crash.log", "config.yaml", "log", "state"}),
    ],
)
def test_a_traceback_outlives_a_refusal(config: Path, tmp_path: Path, error: JaxmergeError, left: set[str]) -> None:
    class Refused(FakeEngine):
        def load(self) -> None:
            raise error

    out, few = tmp_path / "run", ["search.generations=1"]
    if isinstance(error, CheckpointError):
        with pytest.raises(CheckpointError):
            evolve(config, out, overrides=few, build=Refused)
        assert not out.exists()
    out.mkdir()
    (out / "crash.log").write_text("Traceback")
    with pytest.raises(type(error)):
        evolve(config, out, overrides=few, build=Refused)
    assert {path.name for path in out.iterdir()} == left
    assert evolve(config, out, overrides=few, build=FakeEngine).summary["candidates"]


def test_one_process_at_a_time(config: Path, tmp_path: Path) -> None:
    message = f"process {os.getpid()} on .* is at work in it"
    with locked(tmp_path / "run" / "state" / "lock"), pytest.raises(InputError, match=message):
        evolve(config, tmp_path / "run", build=FakeEngine)
    with locked(tmp_path / "run" / "state" / "lock"):
        pass


def test_a_lock_of_another_host_is_stale_when_it_is_silent(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "lock"
    lock.parent.mkdir()
    lock.write_text('{"host": "elsewhere", "pid": 7}')
    with pytest.raises(InputError, match="process 7 on elsewhere"), locked(lock):
        pass
    os.utime(lock, (0, 0))
    with locked(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_export_of_any_candidate(whole: Path, tmp_path: Path) -> None:
    run = Run(whole, FakeEngine)
    run.export(tmp_path / "other", (2, 5))
    wanted = [float(str(x)) for x in run.history.stage("parameter")[2].genomes[5]]
    assert json.loads((tmp_path / "other" / "config.json").read_text())["parameters"]["weight"] == wanted
    run.export(tmp_path / "best")
    assert (tmp_path / "best" / "config.json").read_bytes() == (whole / "model" / "config.json").read_bytes()
    for candidate, message in (((9, 0), "generations 0 to 5"), ((0, 8), "candidates 0 to 7")):
        with pytest.raises(InputError, match=message):
            run.export(tmp_path / "none", candidate)
    with pytest.raises(InputError, match="exists"):
        run.export(tmp_path / "best")
    with pytest.raises(InputError, match="is not a run's folder"):
        Run(tmp_path, FakeEngine)


def test_when_everything_fails_the_reason_is_given(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Result(None, 0.0, {}, 0.0, "no GPU")
    monkeypatch.setattr(FakeEngine, "_result", lambda self, genome, split: failed)
    with pytest.raises(InputError, match="every candidate of 'parameter' failed: no GPU"):
        evolve(config, tmp_path / "run", build=FakeEngine)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_dry_run_reads_no_weights_and_writes_nothing(config: Path) -> None:
    lines = plan(config, ["search.budget.candidates=20", "search.generations=null"], FakeEngine)
    assert lines["space"] == "task_arithmetic, 4 dimensions"
    assert lines["search"] == "CMA_ES, population 8, 2 generations, 16 candidates"
    assert "uniform" in lines["baselines"] and lines["memory"] == "none"


def test_candidates_of_the_random_search_can_be_exported(whole: Path, tmp_path: Path) -> None:
    run = Run(whole, FakeEngine)
    run.export(tmp_path / "out", ("random_search", 1, 2))
    written = json.loads((tmp_path / "out" / "config.json").read_text())["parameters"]["weight"]
    np.testing.assert_allclose(written, run.history.stage("random_search")[1].genomes[2], rtol=1e-6)
    with pytest.raises(InputError, match="no candidates of 'elsewhere'"):
        run.export(tmp_path / "other", ("elsewhere", 0, 0))
    with pytest.raises(InputError, match=r"out: exists; name another output$"):
        run.export(tmp_path / "out")
