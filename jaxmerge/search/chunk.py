"""How many candidates a device runs at once, where the config does not say: measured at the start of a long search.

Vmapped candidates have other bits than candidates one after another, so the size is chosen once, by process 0, and a
run that goes on has the one that it recorded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxmerge.search.config import EvolveConfig
    from jaxmerge.search.engine import Engine
    from jaxmerge.search.loop import Limit

# Candidates at once that are tried.
SIZES = (1, 2, 4)
# A search of fewer blocks of candidates has not enough to gain from the two that are timed first.
BLOCKS = 100
# A shorter search, in seconds, has not enough to gain for its bits to depend on a clock.
LONG = 600.0
# Of the search's time, what trying one size may cost.
SHARE = 0.05
# What a larger size must save of a generation's time.
MARGIN = 0.05


@dataclass(frozen=True)
class Timing:
    """Seconds of a block of candidates: the first run, with what it compiles, and another."""

    first: float
    again: float


@dataclass(frozen=True)
class Length:
    """Of a search. generations, seconds: None where they do not limit it. pop: candidates side by side."""

    population: int
    pop: int
    generations: int | None
    seconds: float | None

    def blocks(self, chunk: int) -> int:
        """Of a generation."""
        return -(-self.population // (self.pop * chunk))

    def lasts(self, block: float) -> float:
        """Seconds of all, where a block of candidates one after another takes so many."""
        by_count = None if self.generations is None else self.generations * self.blocks(1) * block
        return min(limit for limit in (by_count, self.seconds) if limit is not None)


def choose(sizes: Sequence[int], length: Length, time: Callable[[int], Timing]) -> tuple[int, str]:
    """The fastest of `sizes`, ascending from 1, and why. time: runs a block of so many candidates at once."""
    if len(sizes) == 1:
        return sizes[0], f"chunk {sizes[0]}: no other can be had"
    if length.generations is not None and length.generations * length.blocks(1) < BLOCKS:
        return 1, "chunk 1: the search is too short to measure others"
    found = {1: time(1)}
    whole = length.lasts(found[1].again)
    if whole < LONG:
        return 1, f"chunk 1: the search takes about {whole:.2g} s, too short to measure others"
    for size in sizes[1:]:
        cost = found[1].first + 2 * size * found[1].again
        if cost > SHARE * whole:
            break
        found[size] = time(size)
    seconds = {size: length.blocks(size) * timing.again for size, timing in found.items()}
    best = 1
    for size in sizes[1:]:
        if size in seconds and seconds[size] < (1 - MARGIN) * seconds[best]:
            best = size
    told = ", ".join(f"{each:.3g} s with {size}" for size, each in seconds.items())
    return best, f"chunk {best}: a generation takes {told}"


def measured(config: "EvolveConfig", engine: "Engine", population: int, limit: "Limit") -> tuple[int, str]:
    """The size for a search, and why; see `choose`. The engine is loaded, and has the last size that was tried."""
    length = Length(population, engine.chosen["mesh"]["pop"], limit.total(population), limit.seconds)
    sizes = engine.chunks(population)
    if config.search.evaluation.kind != "full" and len(sizes) > 1:
        return 1, "chunk 1: a search by blocks of examples does not measure others"
    start = next((genome for merge in engine.starts if (genome := engine.start(merge)) is not None), engine.start(None))
    assert start is not None
    rng = np.random.default_rng(config.search.seed)
    drawn = start + config.search.sigma * rng.standard_normal((population, engine.dimension))
    genomes = np.clip(drawn, 0.0, 1.0).astype(np.float32)
    return choose(sizes, length, lambda size: engine.timed(genomes, size))
