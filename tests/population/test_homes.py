"""Where the sources lie changes no bit of a score: on the device, on the host, or split over the devices."""

import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import ml_dtypes
import numpy as np
import pytest
from miniature import CONFIG, batch, checkpoints, miniature

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.models import likelihood
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Batch, Block, Runner, Scored
from jaxmerge.objectives.schema import ObjectiveConfig
from jaxmerge.objectives.split import Preparer, Split
from jaxmerge.objectives.weighted import score_all
from jaxmerge.population import runner
from jaxmerge.population.mapped import MappedBank, MappedMerging
from jaxmerge.population.runner import Programs
from jaxmerge.population.streamed import Streamed
from jaxmerge.runtime.compilations import counted
from jaxmerge.spaces.parameter import ParameterSpace


class Asking(PreparedObjective):
    """For the likelihood of one batch."""

    discrete = False

    def __init__(self, name: str, asked: Batch) -> None:
        self.config, self.asked = cast(ObjectiveConfig, SimpleNamespace(name=name, weight=1.0)), asked

    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        raise NotImplementedError

    def texts(self, split: str, draw: int | None = None, block: Block | None = None) -> Batch:
        return self.asked

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        return Scored(runner.likelihood(self.asked), np.zeros(runner.size, np.float32))


def streamed(programs: Programs, space: ParameterSpace, dtype: Any = np.float32, waiting: int = 2**30) -> Streamed:
    """The same over a bank on the host."""
    base, experts = checkpoints(dtype)
    architecture = architecture_of(CONFIG)
    table = architecture.table(architecture.read(CONFIG))
    like = programs.population
    used = base.read if space.operator.needs_base else None
    bank = MappedBank.of_views(table, used, [expert.read for expert in experts])
    grid = {p.name: space.grid(p) for p in space.operator.parameters if p.gridded}
    mapped = MappedMerging.prepared(bank, space.operator, like.members, like.dtype, seed=7, grid=grid)
    return Streamed(programs.shape, mapped, waiting)


def values_of(space: ParameterSpace, count: int) -> dict[str, np.ndarray]:
    return space.decode(np.random.default_rng(3).random((count, space.dimension), dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "dtype"), [("task_arithmetic", np.float32), ("dare_ties", ml_dtypes.bfloat16), ("della", np.float32)]
)
def test_a_bank_on_the_host_gives_the_bits_of_one_on_the_device(name: str, dtype: type) -> None:
    programs, space = miniature(name, dtype=dtype)
    values, texts = values_of(space, 2), batch(((3, 8),))
    scores = streamed(programs, space, dtype).candidates(values).likelihood(texts)
    assert np.isfinite(scores).all() and len(np.unique(scores)) > 4
    np.testing.assert_array_equal(scores, programs.candidates(values).likelihood(texts))


def test_nor_do_buckets_micro_batches_blocks_of_the_head_and_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MICRO_TOKENS", 24)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(likelihood, "SMALLEST_BLOCK", 16)
    programs, space = miniature("ties")
    texts = batch(((7, 8), (2, 24)))
    host = streamed(programs, space)
    scores = host.candidates(values_of(space, 3)).likelihood(texts)
    np.testing.assert_array_equal(scores, programs.candidates(values_of(space, 3)).likelihood(texts))
    assert [rows[0].shape for rows in host.placed(texts)] == [(3, 3, 8), (2, 1, 24)]
    # One candidate at a time, and another population: the same programs, the same scores.
    host.waiting = 0
    with counted() as compilations:
        np.testing.assert_array_equal(host.candidates(values_of(space, 4)).likelihood(texts)[:3], scores)
    assert compilations.count == 0


def test_a_bank_on_the_host_writes_the_same_texts() -> None:
    programs, space = miniature("task_arithmetic")
    values, texts = values_of(space, 2), batch(((3, 8),), left=True)
    host = streamed(programs, space)
    written = host.candidates(values).generate(texts, 3, (2,))
    np.testing.assert_array_equal(written, programs.candidates(values).generate(texts, 3, (2,)))
    # Entropies are those of whole models as well.
    sure = host.candidates(values).entropy(batch(((3, 8),)))
    np.testing.assert_allclose(sure, programs.candidates(values).entropy(batch(((3, 8),))), rtol=1e-6)


def test_two_layers_of_the_sources_at_most_are_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, space = miniature("task_arithmetic")
    host = streamed(programs, space)
    put, alive = Streamed.put, []

    def counting(self: Streamed, piece: Any) -> Any:
        placed = put(self, piece)
        pieces.append([weakref.ref(array) for array in jax.tree.leaves(placed.bank)])
        alive.append(sum(any(array() is not None for array in arrays) for arrays in pieces))
        return placed

    pieces: list[list[weakref.ref[jax.Array]]] = []
    monkeypatch.setattr(Streamed, "put", counting)
    host.candidates(values_of(space, 2)).likelihood(batch(((3, 8),)))
    # Embedding, three layers, norm, head.
    assert len(alive) == 6 and max(alive) == 2


def test_the_texts_of_several_objectives_read_the_sources_once(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, space = miniature("task_arithmetic")
    host, values = streamed(programs, space), values_of(space, 2)
    read: list[int] = []
    layer = MappedMerging.layer

    def counting(self: MappedMerging, number: int) -> Any:
        read.append(number)
        return layer(self, number)

    monkeypatch.setattr(MappedMerging, "layer", counting)
    objectives = [Asking("one", batch(((3, 8),))), Asking("two", batch(((3, 16),)))]
    together = score_all(objectives, host.candidates(values), "search")
    assert read == [0, 1, 2]
    expected = score_all(objectives, programs.candidates(values), "search")
    for name, scored in expected.scored.items():
        np.testing.assert_array_equal(together.scored[name].examples, scored.examples)
    # Where their streams may not wait together, each has a pass of its own.
    host.waiting = 0
    read.clear()
    apart = score_all(objectives, host.candidates(values), "search")
    assert read == [0, 1, 2] * 4 and apart.scores.tolist() == together.scores.tolist()


@pytest.mark.parametrize(
    ("name", "said"), [("split_bank.py", ["same", "gathered"]), ("split_paths.py", ["dataflow", "joint"])]
)
def test_a_split_bank_gives_what_a_whole_one_gives_by_layers(name: str, said: list[str], tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "support" / name
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": path}
    command = [sys.executable, "-P", str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == said
