"""Real processes of two devices each: the history of one process, whatever happens to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import miniature
import numpy as np
import pytest
import tiny_world
from fake_engine import FakeEngine, write_config
from tiny_world import WORDS, write_world

from jaxmerge.errors import InputError
from jaxmerge.launch.local import _free_port
from jaxmerge.runtime.peers import Peers
from jaxmerge.search import resolved, shared
from jaxmerge.search.evolve import evolve
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.shared import SharedEngine

GENERATIONS = 60
SEARCH = {"population": 6, "generations": GENERATIONS, "seed": 1, "baselines": []}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        # Heads enough to divide a candidate over the devices of two processes.
        patch.setattr(miniature, "CONFIG", miniature.CONFIG | {"num_attention_heads": 4, "num_key_value_heads": 2})
        patch.setattr(tiny_world, "CONFIG", miniature.CONFIG)
        # Two runs that each time how many candidates run at once may choose otherwise.
        path = write_world(tmp_path_factory.mktemp("world"), search=SEARCH, runtime={"chunk": 1})
    # All of one shape: every split is scored by the same few programs, whose compilation is what these tests wait for.
    rng = np.random.default_rng(5)
    for split in ("search", "validation", "test"):
        rows = [rng.choice(WORDS, 5).tolist() for _ in range(8)]
        lines = [json.dumps({"question": " ".join(row), "answer": " ".join(row[:2])}) for row in rows]
        (path.parent / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def alone(world: Path) -> list[dict[str, Any]]:
    """The history of one process, undisturbed."""
    evolve(world, world.parent / "alone")
    return history(world.parent / "alone")


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def require_equal(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [line["genome"] for line in found] == [line["genome"] for line in wanted]
    assert [line["score"] for line in found] == pytest.approx([line["score"] for line in wanted], abs=1e-5)


def launched(
    world: Path, out: Path, processes: int, mesh: str = "auto", bank: str = "auto", **more: Any
) -> subprocess.Popen[str]:
    target = world.parent / f"{out.name}.target.yaml"
    keys = {"kind": "local", "processes": processes, "devices": 2, "env": {"JAXMERGE_SILENCE_SECONDS": 10}} | more
    target.write_text(json.dumps(keys))
    words = [sys.executable, "-P", "-m", "jaxmerge", "launch", str(target), "--", "evolve", str(world), str(out)]
    words += ["--set", f"runtime.mesh={mesh}", "--set", f"runtime.bank={bank}"]
    log = (world.parent / f"{out.name}.log").open("w")
    return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, text=True)


def log_of(world: Path, out: Path) -> str:
    return (world.parent / f"{out.name}.log").read_text()


def wait_for_lines(process: subprocess.Popen[str], out: Path, count: int) -> None:
    until = time.monotonic() + 300
    while not ((out / "history.jsonl").exists() and len((out / "history.jsonl").read_bytes().splitlines()) >= count):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)


def worker(launch: subprocess.Popen[str], number: int) -> int:
    """The process id of a process that a launch has started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                named = f"JAXMERGE_PROCESS={number}" in (entry / "environ").read_text().split("\0")
            except OSError:
                continue
            if parent == launch.pid and named:
                return int(entry.name)
    raise AssertionError(f"there is no process {number}")


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")


@needs_proc
def test_a_killed_process_costs_a_restart_and_nothing_else(world: Path, alone: list[dict[str, Any]]) -> None:
    """The bank is split over both, so that the model at the end is merged by both."""
    out = world.parent / "killed"
    launch = launched(world, out, 2, bank="sharded", retries=1)
    wait_for_lines(launch, out, 60)
    os.kill(worker(launch, 1), signal.SIGKILL)
    assert launch.wait(300) == 0, log_of(world, out)
    shown = log_of(world, out)
    assert "jaxmerge: process 1 on " in shown and "was lost; the same command goes on" in shown
    assert "defect" not in shown and not (out / "crash.log").exists()
    assert "process 1 (killed) was interrupted; starting again (1 of 1)" in shown
    require_equal(history(out), alone)
    assert (out / "model" / "model.safetensors").read_bytes() == (
        world.parent / "alone" / "model" / "model.safetensors"
    ).read_bytes()
    assert {"run.log", "process-1.log"} <= {file.name for file in (out / "log").iterdir()}
    # By process 0 alone: one event file for each of its two starts.
    assert (out / "state" / "kinship.json").is_file()
    if find_spec("tensorboardX"):
        assert len(list((out / "log" / "tensorboard").iterdir())) == 2


@needs_proc
def test_a_signal_to_one_of_four_stops_all_and_one_goes_on(world: Path, alone: list[dict[str, Any]]) -> None:
    """The four have two devices each, and a candidate is divided over those of two."""
    out = world.parent / "stopped"
    launch = launched(world, out, 4, "{pop: 2, model: 4}", retries=0)
    wait_for_lines(launch, out, 30)
    os.kill(worker(launch, 2), signal.SIGTERM)
    assert launch.wait(120) == 75, log_of(world, out)
    shown = log_of(world, out)
    assert shown.count("interrupted; the same command goes on") >= 4 and "lost" not in shown
    lines = (out / "history.jsonl").read_bytes()
    count = len(history(out))
    assert 30 <= count < 6 * GENERATIONS and count % 6 == 0 and lines.endswith(b"\n")
    evolve(world, out)
    require_equal(history(out), alone)


class Engine(FakeEngine):
    """Tells which of its calls make a model."""

    made: tuple[str, ...] = ()

    def parameters(self, genome: np.ndarray) -> dict[str, np.ndarray]:
        self.made += ("merged",)
        return {}

    def export(self, candidate: Any, folder: Path) -> None:
        self.made += ("exported",)
        folder.mkdir()


@pytest.mark.parametrize(
    ("number", "bank", "made"),
    [(0, "device", "exported"), (1, "device", None), (0, "sharded", "exported"), (1, "sharded", "merged")],
)
def test_a_model_is_written_by_one_and_merged_by_all_that_hold_a_share(
    tmp_path: Path, number: int, bank: str, made: str | None
) -> None:
    engine = Engine(resolved.read_config(write_config(tmp_path)))
    engine.chosen = {**engine.chosen, "bank": bank}
    peers = cast(Peers, SimpleNamespace(leads=number == 0))
    SharedEngine(cast(Any, engine), peers, RunFolder(tmp_path)).export(np.zeros(4), tmp_path / "model")
    assert engine.made == (() if made is None else (made,)) and (tmp_path / "model").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": {"jax": "0.1"}}, r"has version\.jax: '.*', process 0 has '0\.1'; give all hosts the same"),
        ({"search": {"seed": 9}}, r"has search\.seed: 3, process 0 has 9; give all hosts the same"),
    ],
)
def test_a_process_of_another_version_or_config_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(shared, "request_stop", lambda peers: None)

    def theirs(mine: Any) -> Any:
        told = mine()
        return told | {key: told[key] | value for key, value in change.items()}

    peers = cast(Peers, SimpleNamespace(leads=False, same=theirs, require=lambda topic, check: check()))
    with pytest.raises(InputError, match=message):
        shared.Part(tmp_path, tmp_path, peers).require_alike(resolved.read_config(write_config(tmp_path)))


def test_processes_that_differ_are_refused(world: Path) -> None:
    """One has other data under the same name; nothing is left behind."""
    other = world.parent / "other"
    shutil.copytree(world.parent, other, ignore=shutil.ignore_patterns("alone", "killed*", "stopped*", "other"))
    (other / "test.jsonl").write_text((other / "test.jsonl").read_text() + '{"question": "w4 w5", "answer": "w4"}\n')
    port, out = _free_port(), world.parent / "refused"
    processes = []
    for number, config in enumerate((world, other / world.name)):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAXMERGE_COORDINATOR": f"localhost:{port}",
            "JAXMERGE_PROCESSES": "2",
            "JAXMERGE_PROCESS": str(number),
        }
        words = [sys.executable, "-P", "-m", "jaxmerge", "evolve", str(config), str(out)]
        processes.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
    shown = [process.communicate(timeout=200)[1].strip().splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], shown
    assert "has origin.data.copy.test: 'xxh3:" in shown[1] and "give all hosts the same" in shown[1]
    assert shown[0].startswith("jaxmerge: process 1 on ")
    assert not out.exists()
