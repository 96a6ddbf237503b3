"""Candidates at once on a device are chosen by what was timed, once for a run."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fake_engine import FakeEngine, write_config
from tiny_world import write_world

from jaxmerge.documents import Document
from jaxmerge.errors import Interrupted
from jaxmerge.runtime.peers import Peers
from jaxmerge.search.chunk import BLOCKS, LONG, Length, Timing, choose
from jaxmerge.search.engines import scoring
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import read_config
from jaxmerge.search.shared import SharedEngine

LENGTH = Length(population=8, pop=1, generations=500, seconds=None)


def timings(*again: float, compiling: float = 5.0) -> Callable[[int], Timing]:
    """Of blocks of 1, 2 and 4."""
    seconds = dict(zip((1, 2, 4), again, strict=False))
    return lambda size: Timing(compiling + seconds[size], seconds[size])


@pytest.mark.parametrize(
    ("again", "size"),
    [((1.0, 1.2, 2.6), 2), ((1.0, 1.2, 1.8), 4), ((1.0, 2.2, 4.9), 1), ((1.0, 1.97, 3.9), 1), ((1.0, 2.1, 3.0), 4)],
)
def test_the_size_with_the_shortest_generation_is_taken(again: tuple[float, ...], size: int) -> None:
    chosen, why = choose((1, 2, 4), LENGTH, timings(*again))
    assert chosen == size and why.startswith(f"chunk {size}: a generation takes 8 s with 1, ")


def test_a_last_block_that_is_filled_up_counts_whole() -> None:
    """Five candidates by four are two blocks, as by three."""
    length = Length(population=5, pop=1, generations=500, seconds=None)
    assert choose((1, 2, 4), length, timings(1.0, 1.5, 2.6))[0] == 2 and length.blocks(4) == 2
    assert Length(16, 8, 1, None).blocks(1) == 2 and Length(16, 8, 1, None).blocks(4) == 1


@pytest.mark.parametrize(
    ("length", "again", "tried"),
    [
        (Length(8, 1, (BLOCKS - 1) // 8, None), 60.0, []),  # hardly any blocks, however long they take
        (Length(8, 1, None, LONG - 1), 1.0, [1]),
        (Length(8, 1, 100, None), LONG / 801, [1]),
        (Length(8, 1, 100, 3600.0), 0.01, [1]),  # it ends by its generations
        (Length(8, 1, None, LONG), 1.0, [1, 2, 4]),
        (Length(8, 8, 1000, None), 1.0, [1, 2, 4]),
    ],
)
def test_a_short_search_does_not_pay_for_measuring(length: Length, again: float, tried: list[int]) -> None:
    asked: list[int] = []

    def time(size: int) -> Timing:
        asked.append(size)
        return Timing(again + 0.5, again / size)

    size, why = choose((1, 2, 4), length, time)
    assert asked == tried
    assert tried == [1, 2, 4] or (size == 1 and "too short to measure others" in why)


def test_what_compiles_long_is_tried_only_where_the_search_is_longer() -> None:
    asked: list[int] = []

    def time(size: int) -> Timing:
        asked.append(size)
        return Timing(193.0, 1.0)

    # 4000 seconds, of which one size may cost 200.
    assert choose((1, 2, 4), LENGTH, time)[0] == 2 and asked == [1, 2]
    assert choose((1,), LENGTH, time) == (1, "chunk 1: no other can be had") and asked == [1, 2]


class Measuring(FakeEngine):
    """Has to be told how many candidates run at once."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.chosen = self.chosen | {"chunk": config.runtime.chunk}
        made.append(self)


made: list[Measuring] = []


def test_a_run_records_the_size_and_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = write_config(tmp_path), tmp_path / "out"
    long = ["search.generations=5000", "search.baselines=[]"]

    def stop(event: Progress) -> None:
        if event.stage == "parameter" and event.done == 2:
            raise KeyboardInterrupt

    notes: list[str] = []

    def record(event: Progress) -> None:
        notes.extend([event.note] if event.note else [])
        stop(event)

    with pytest.raises(Interrupted):
        evolve(config, out, overrides=long, build=Measuring, progress=record)
    assert made[-1].tried == [1, 2, 4] and made[-1].chosen["chunk"] == 2
    assert notes[0] == FakeEngine.placed and notes[1].startswith("chunk 2: a generation takes 8 s with 1, 6 s with 2")
    assert Document.read(out / "config.yaml").data["runtime"]["chunk"] == 2
    # Another clock says other things, and is not asked.
    monkeypatch.setattr(FakeEngine, "timings", {})
    evolve(config, out, overrides=["search.generations=3", "search.baselines=[]"], build=Measuring)
    assert made[-1].tried == [] and Document.read(out / "config.yaml").data["runtime"]["chunk"] == 2


def test_before_a_size_is_recorded_nothing_depends_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out = write_config(tmp_path), tmp_path / "out"

    def killed(self: FakeEngine, genomes: np.ndarray, chunk: int) -> Timing:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeEngine, "timed", killed)
    with pytest.raises(Interrupted):
        evolve(config, out, overrides=["search.generations=5000"], build=Measuring)
    assert Document.read(out / "config.yaml").data["runtime"]["chunk"] == "auto"
    assert not (out / "history.jsonl").exists() and made[-1].calls == []
    evolve(config, out, overrides=["search.generations=3"], build=Measuring)
    assert Document.read(out / "config.yaml").data["runtime"]["chunk"] == 1


def test_of_several_processes_the_first_one_times() -> None:
    first = {"timing": Timing(3.0, 1.0), "sizes": (1, 2)}
    peers = cast(Peers, SimpleNamespace(same=lambda _: said.pop(0), check=lambda: None))
    own = SimpleNamespace(timed=lambda genomes, chunk: Timing(9.0, 9.0), chunks=lambda population: (1, 2, 4))
    engine = SharedEngine(cast(Any, own), peers, RunFolder(Path("run")))
    said: list[Any] = [first["sizes"], first["timing"]]
    assert engine.chunks(8) == (1, 2) and engine.timed(np.zeros((2, 3)), 2) == Timing(3.0, 1.0)


def test_an_engine_runs_what_fits_at_once_and_keeps_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(write_world(tmp_path))
    engine = ParameterEngine(config)
    engine.load()
    assert engine.chosen["chunk"] == "auto" and engine.chunks(8) == (1, 2, 4) and engine.chunks(3) == (1, 2)
    runs: list[tuple[int, int, str]] = []

    def scored(objectives: Any, runner: Any, split: str, draw: int | None) -> None:
        runs.append((runner._programs.shape.chunk, runner.size, split))

    monkeypatch.setattr(scoring, "score_all", scored)
    timing = engine.timed(np.full((8, engine.dimension), 0.5, np.float32), 4)
    assert timing.first > 0 and timing.again > 0 and runs == [(4, 4, "search")] * 2 and not engine._memory._known
    engine.use(2)
    assert engine.chosen["chunk"] == 2 and engine.chunks(8) == (2,)
    programs = engine._programs
    assert programs is not None and programs.shape.chunk == 2
    # A device with room for one candidate.
    narrow = ParameterEngine(config.running(memory=f"{int(engine._home.at(1).bytes / 0.9) + 1000}"))
    assert narrow.chunks(8) == (1,) and ParameterEngine(config.running(bank="host")).chunks(8) == (1,)
    assert ParameterEngine(config.running(chunk=3)).chunks(8) == (3,)
