"""Figures for TensorBoard and Weights & Biases: what is passed on, and that nothing of them breaks a run."""

import sys
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine, write_config

from jaxmerge.errors import InputError
from jaxmerge.evolution import _Publisher
from jaxmerge.report.monitors import Monitors
from jaxmerge.search.evolve import evolve
from jaxmerge.search.progress import Progress


class FakeWandb:
    """The part of wandb that is used. broken: every call after `init` fails."""

    def __init__(self, broken=False):
        self.inits, self.metrics, self.rows, self.finished, self.broken = [], [], [], 0, broken

    def init(self, **given):
        self.inits.append(given)
        return self

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, row):
        if self.broken:
            raise ConnectionError("no network")
        self.rows.append(row)

    def finish(self):
        self.finished += 1


def _search(folder, overrides=()):
    publisher = _Publisher()
    config = write_config(folder)
    try:
        return evolve(
            config,
            folder / "run",
            overrides=overrides,
            publish=publisher,
            progress=publisher.monitors,
            build=FakeEngine,
        )
    finally:
        publisher.monitors.close()


def test_tensorboard_gets_each_generation(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    run = _search(tmp_path)
    events = []
    for file in sorted((run.folder / "log" / "tensorboard").iterdir()):
        raw = file.read_bytes()
        while raw:
            length = int.from_bytes(raw[:8], "little")
            event = Event()
            event.ParseFromString(raw[12 : 12 + length])
            events.append(event)
            raw = raw[16 + length :]
    best = [(e.step, v.simple_value) for e in events for v in e.summary.value if v.tag == "parameter/best"]
    assert [step for step, _ in best] == [8, 16, 24, 32, 40, 48]
    assert best[-1][1] == pytest.approx(
        max(r.score for g in run.history.stage("parameter") for r in g.results if r.score)
    )
    assert {v.tag for e in events for v in e.summary.value} >= {"random_search/best", "parameter/mean"}


def test_without_the_package_there_is_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    run = _search(tmp_path)
    assert run.summary["candidates"] == 48
    assert not (run.folder / "log" / "tensorboard").exists()


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("jaxmerge.search.evolve.find_spec", lambda name: object())
    return fake


def test_wandb_gets_each_generation_of_a_run_that_can_be_resumed(tmp_path, wandb):
    run = _search(tmp_path, ["report.wandb=merges"])
    (given,) = wandb.inits
    assert given["project"] == "merges" and given["name"] == "run" and given["resume"] == "allow"
    assert given["config"]["search"]["seed"] == 3
    assert ("parameter/*", "parameter/candidates") in wandb.metrics and len(wandb.metrics) == 2
    searched = [row for row in wandb.rows if "parameter/best" in row]
    assert [row["parameter/candidates"] for row in searched] == [8, 16, 24, 32, 40, 48]
    assert wandb.finished == 1
    # The key may change when a run goes on, and the run keeps its id.
    _search(tmp_path, ["report.wandb=others", "search.generations=7"])
    assert wandb.inits[1]["id"] == given["id"] and wandb.inits[1]["project"] == "others"
    assert run.folder.is_dir()


def test_a_monitor_that_fails_is_left_out_and_the_run_goes_on(tmp_path, wandb):
    wandb.broken = True
    run = _search(tmp_path, ["report.wandb=merges"])
    assert run.summary["candidates"] == 48
    assert (run.folder / "log" / "run.log").read_text().count("WeightsAndBiases is left out: ConnectionError") == 1


def test_a_project_without_the_package_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxmerge.search.evolve.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"report\.wandb: needs wandb; pip install jaxmerge\[wandb\]"):
        _search(tmp_path, ["report.wandb=merges"])
    assert not (tmp_path / "run").exists()


def test_events_without_candidates_are_not_figures():
    seen = []
    monitors = Monitors()
    monitors._members = [SimpleNamespace(log=lambda *given: seen.append(given), close=lambda: None)]
    monitors(Progress("loading", 0, None))
    monitors(Progress("parameter", 1, 2, candidates=4, best=0.5))
    assert seen == [("parameter", 4, {"best": 0.5, "failed": 0.0})]
