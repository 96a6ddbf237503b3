"""The demo's own part: which config, which folder, how many devices."""

import os
import sys
from types import SimpleNamespace

import pytest

from jaxmerge.demo.run import CONFIG, cores, run_demo


@pytest.fixture
def asked(monkeypatch):
    """What the search is asked for, without running it."""
    seen = {}

    def evolve(config, out, **settings):
        seen.update(config=config, out=out, devices=os.environ["JAX_NUM_CPU_DEVICES"], **settings)
        return "a run"

    monkeypatch.setitem(sys.modules, "jaxmerge.evolution", SimpleNamespace(evolve=evolve))
    monkeypatch.setitem(os.environ, "JAX_NUM_CPU_DEVICES", "")
    del os.environ["JAX_NUM_CPU_DEVICES"]
    return seen


def test_one_device_a_core_and_the_shipped_config(asked, tmp_path):
    assert run_demo(tmp_path / "out") == "a run"
    assert asked["devices"] == str(cores()) and cores() >= 1
    assert asked["config"] == CONFIG and asked["out"] == tmp_path / "out"


def test_a_number_of_devices_that_is_set_is_kept(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    run_demo(tmp_path)
    assert asked["devices"] == "3"
