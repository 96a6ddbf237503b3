"""What the search asks of the machine that merges and scores.

The search knows nothing of devices, models or merging: it hands over genomes and untuned merges and gets
scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxmerge.converters.reference import Location
from jaxmerge.objectives.interface import Block
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.chunk import Timing
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.texts import Texts
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.result import Result

# A genome, float32 `[d]` in the unit box, or an untuned merge.
Candidate = np.ndarray | Untuned


@dataclass(frozen=True)
class Measurement:
    """A candidate scored on every example of a split.

    examples: float32 `[N]` an objective, higher is better; empty where the candidate failed.
    texts: what stood in those examples, by objective; those without texts are left out.
    """

    result: Result
    examples: dict[str, np.ndarray]
    texts: dict[str, Texts] = field(default_factory=dict)


class Engine(Protocol):
    """Building one checks all input and reads no weights; `load` brings the models onto the devices."""

    @property
    def dimension(self) -> int:
        """d, the length of a genome."""
        ...

    @property
    def baselines(self) -> tuple[Untuned, ...]:
        """The untuned merges that the search has to beat, besides the parents."""
        ...

    @property
    def starts(self) -> tuple[Untuned, ...]:
        """Of baselines and parents those from which a search may start, where `search.start` is `baseline`."""
        ...

    @property
    def positions(self) -> np.ndarray:
        """Where in the model each gene acts: float `[d]` from 0, its beginning, to 1, its end."""
        ...

    @property
    def binary(self) -> range:
        """The genes that only switch something on, above 0.5, or off."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits for which every objective has data."""
        ...

    @property
    def examples(self) -> Mapping[str, Mapping[str, int]]:
        """How many examples each objective has of each split."""
        ...

    @property
    def tokens(self) -> Mapping[str, np.ndarray]:
        """What each example of the search split costs, by objective: int64 `[N]`. All alike where an objective does
        not say."""
        ...

    @property
    def sampled(self) -> bool:
        """Whether a draw of the search split differs from the whole of it."""
        ...

    @property
    def resolution(self) -> float:
        """The least difference between two unequal scores that means anything: 1 / examples for a share, as
        weighted; the tie-breaker is squashed below it. Only algorithms that compare scores across generations
        use it."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each objective in the score; they sum to 1."""
        ...

    @property
    def locations(self) -> Mapping[str, Location]:
        """Where each model's files are, by its name in the config, and those of the `base`."""
        ...

    @property
    def tokenizer(self) -> Path:
        """The folder whose tokenizer is used."""
        ...

    @property
    def chosen(self) -> Mapping[str, Any]:
        """`runtime` with its `auto` values as chosen: mesh, bank, chunk, forward, dtype, cache, as the config would
        write them; `chunk` is auto until `use` is called. Raises InputError for models that no home of the bank has
        room for."""
        ...

    @property
    def compiles(self) -> int:
        """How many programs have been compiled so far to score candidates."""
        ...

    @property
    def devices(self) -> str:
        """The devices in words, such as `1 x cpu`."""
        ...

    @property
    def placed(self) -> str:
        """Where sources and candidates lie and why there, with the bytes, in one line."""
        ...

    def plan(self, devices: str | None = None) -> Mapping[str, str]:
        """What a dry run prints: memory, compilations, time, each a line under its name. devices: those that are
        planned for, such as v5e-16; None: those that are here."""
        ...

    def chunks(self, population: int) -> tuple[int, ...]:
        """How many candidates a device may run at once, ascending: one number where the config says it or nothing else
        fits."""
        ...

    def timed(self, genomes: np.ndarray, chunk: int) -> Timing:
        """How long a block of candidates takes on the search split, `chunk` of them at once on a device. Genomes
        `[P, d]`, of which the first are run; no score of theirs is kept."""
        ...

    def use(self, chunk: int) -> None:
        """Run so many candidates at once on a device from now on."""
        ...

    def load(self) -> None:
        """Load the models. Called once, before the first score is asked for."""
        ...

    def identities(self, genomes: np.ndarray) -> list[bytes]:
        """What tells candidates apart, a digest of each of `[P, d]`: different genomes may be one candidate."""
        ...

    @property
    def approximates(self) -> bool:
        """Whether scores of `evaluate` that are not asked to be exact differ from those: in rounding, or
        because what they merge is compressed."""
        ...

    def evaluate(
        self,
        genomes: np.ndarray,
        split: str = "search",
        draw: int | None = None,
        block: Block | None = None,
        exact: bool = False,
    ) -> list[Result]:
        """Score genomes `[P, d]`. draw: names the sample of a generation; None: all examples. block: only these of
        them; any number of genomes is served by the same programs, and all blocks by the same others. exact: as the
        very weights that would be exported.
        A candidate that fails is a Result with `score` None and its error, never an exception."""
        ...

    def gradients(self, genomes: np.ndarray, draw: int | None = None) -> list[Result]:
        """How genomes `[P, d]` should change: results with a `gradient`, whose score is the mean log-probability of the
        reference answers of the search split, smooth where objectives are not.
        Raises InputError where an objective has no reference answers."""
        ...

    def linearised(self, genome: np.ndarray, draw: int | None = None) -> Linearised:
        """What is smooth in the scores of the search split's examples, to first order around a genome."""
        ...

    @property
    def gradient_scores(self) -> bool:
        """Whether the score that comes with a gradient is the one that `evaluate` gives, but for the rounding of
        sums."""
        ...

    def relaxed(self, start: np.ndarray) -> np.ndarray:
        """The genome from which gradient steps set out, where a search would start at `start`."""
        ...

    def relaxed_origin(self, origin: str) -> str:
        """What the genome of `relaxed` comes from, where a search would start at `origin`."""
        ...

    def tightened(self, genome: np.ndarray) -> np.ndarray:
        """Where a search starts after gradient steps that led to `genome`."""
        ...

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        """Score one candidate on all of a split, exactly."""
        ...

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        """The genome of an untuned merge or of a recipe file, clipped to the bounds, with the config's `init`
        values set; of the center for None. None where the space cannot express it.
        Raises InputError where a recipe file does not fit the config."""
        ...

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        """The candidate as mergekit YAML in plain Python; keys of our own under `jaxmerge`."""
        ...

    def ingredients(self, candidate: Candidate) -> list[dict[str, Any]]:
        """The merges that the recipe uses by their names, each before those that use it."""
        ...

    def write_adapters(self, folder: Path) -> None:
        """Write the LoRAs that recipes name and that lie in no file yet into `folder`, which must not exist."""
        ...

    def adapted(self, folder: Path) -> Mapping[str, str]:
        """By the names that recipes have for them, the references of models that are there once `write_adapters` has
        filled `folder`; empty where there is nothing to write."""
        ...

    def export(self, candidate: Candidate, folder: Path) -> None:
        """Write the candidate as an HF folder, which appears complete or not at all; `folder` must not
        exist."""
        ...


Build = Callable[[EvolveConfig], Engine]
