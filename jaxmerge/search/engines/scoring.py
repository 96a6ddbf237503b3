"""What the engines of all spaces do alike: objectives, devices, and scores from runners."""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import Table
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.reference import Location
from jaxmerge.models.weights import Params
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Block, Objective, Runner
from jaxmerge.objectives.loading import build as build_objectives
from jaxmerge.objectives.single import SingleModel
from jaxmerge.objectives.weighted import Scores, score_all
from jaxmerge.operators.interface import Operator
from jaxmerge.population.from_files import FilePrograms
from jaxmerge.runtime.compilations import counted
from jaxmerge.runtime.mesh import POP, own_row
from jaxmerge.runtime.placement import Placement
from jaxmerge.search.algorithms.registry import OPTIMIZERS, default_population
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.chunk import Timing
from jaxmerge.search.config import BASE, EvolveConfig
from jaxmerge.search.engine import Candidate, Measurement
from jaxmerge.search.engines.following import Relaxation, gradient_at, linearised_at
from jaxmerge.search.engines.forward import Texts
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.memory import Memory, identities
from jaxmerge.search.engines.merger import AnyPrograms
from jaxmerge.search.engines.needs import Needs, needs_of
from jaxmerge.search.engines.placed import Placed
from jaxmerge.search.engines.requirements import require_blocks, require_references
from jaxmerge.search.engines.sources import Models
from jaxmerge.search.engines.texts import texts_of
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.result import Result
from jaxmerge.spaces.parameter import Values
from jaxmerge.tokens.tokenizer import Tokenizer


class ScoringEngine(Placed):
    """Implements `search.engine.Engine` but for what its space decides: how long a genome is, how genomes become
    models that run, where a search starts, and what a candidate is as a recipe and as a folder.

    Building one checks tokenizer, data and dtypes, and reads no weights.
    """

    def __init__(self, config: EvolveConfig, models: Models) -> None:
        super().__init__(config, models)
        self._objectives = build_objectives(
            config.objectives, Tokenizer.open(models.tokenizer), config.folder, models.config.vocab_size
        )
        if config.search.evaluation.kind != "full":
            require_blocks(self._objectives)
        if config.search.differentiates:
            require_references(self._objectives)
        self._compiles = 0
        self._memory = Memory()
        self._programs: AnyPrograms | None = None

    # What the space decides.

    # Whether what gradients follow is the candidate itself, and nothing that only becomes one.
    _smooth: ClassVar[bool] = False

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @property
    @abstractmethod
    def baselines(self) -> tuple[Untuned, ...]: ...

    @property
    @abstractmethod
    def starts(self) -> tuple[Untuned, ...]: ...

    @abstractmethod
    def _plan(self, home: Home) -> Mapping[str, str]:
        """Lines of a dry run, besides that of memory."""

    @abstractmethod
    def load(self) -> None: ...

    @abstractmethod
    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None: ...

    @abstractmethod
    def recipe(self, candidate: Candidate) -> dict[str, Any]: ...

    @abstractmethod
    def export(self, candidate: Candidate, folder: Path) -> None: ...

    @abstractmethod
    def _values(self, genomes: np.ndarray) -> Values:
        """Genomes `[P, d]` as what the engine's population makes P models of, `[P, ...]` each."""

    @abstractmethod
    def _untuned(self, merge: Untuned) -> Runner:
        """An untuned merge or a parent as one model that runs."""

    @abstractmethod
    def _relaxed(self) -> Relaxation: ...

    # What all have.

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(self._objectives)

    @property
    def positions(self) -> np.ndarray:
        return np.linspace(0.0, 1.0, self.dimension)

    @property
    def binary(self) -> range:
        return range(0)

    @property
    def splits(self) -> tuple[str, ...]:
        common = set.intersection(*(set(objective.splits()) for objective in self._objectives))
        return tuple(split for split in ("search", "validation", "test") if split in common)

    @property
    def examples(self) -> Mapping[str, Mapping[str, int]]:
        return {objective.name: objective.splits() for objective in self._objectives}

    @property
    def tokens(self) -> Mapping[str, np.ndarray]:
        return {objective.name: _cost(objective) for objective in self._objectives}

    @property
    def sampled(self) -> bool:
        return any(objective.sample is not None for objective in self._config.objectives)

    @property
    def resolution(self) -> float:
        shares = [
            self.weights[objective.name] / max(1, objective.splits().get("search", 1))
            for objective in self._objectives
            if objective.discrete
        ]
        return min(shares, default=0.0)

    @property
    def weights(self) -> Mapping[str, float]:
        total = sum(objective.weight for objective in self._objectives)
        return {objective.name: objective.weight / total for objective in self._objectives}

    @property
    def locations(self) -> Mapping[str, Location]:
        models = {name: checkpoint.location for name, checkpoint in self._models.experts.items()}
        if self._models.base is not None:
            models[BASE] = self._models.base.location
        return models

    @property
    def tokenizer(self) -> Path:
        return self._models.tokenizer

    def plan(self, devices: str | None = None) -> Mapping[str, str]:
        home = self._home if devices is None else self._home_on(devices)
        return {**self._plan(home), "forward": self._forward.line, "memory": home.line}

    @property
    def _population(self) -> int:
        """Candidates of a generation, as a rule: an algorithm may have its own number."""
        wanted = self._config.search.population
        if wanted != "auto":
            return int(wanted)
        return 1 if self._config.search.algorithm in OPTIMIZERS else default_population(self.dimension)

    def _needs_of(
        self,
        sources: Mapping[str, Checkpoint],
        config: DecoderConfig,
        table: Table,
        chosen: Operator | None = None,
    ) -> Needs:
        """config: of the longest model that runs. table: its tensors."""
        return needs_of(
            config,
            table,
            {name: source.tensors for name, source in sources.items()},
            self._dtype,
            chunk=self._chunk,
            operator=chosen,
            texts=self._texts.scored,
            prompts=self._texts.prompts,
            cache=self._cache,
        )

    @cached_property
    def _texts(self) -> Texts:
        return Texts.of(self._objectives)

    @property
    def compiles(self) -> int:
        return self._compiles

    def timed(self, genomes: np.ndarray, chunk: int) -> Timing:
        self._run_at_once(chunk)
        runner, draw = self._candidates(genomes[: chunk * self._mesh.shape[POP]]), 0 if self.sampled else None
        times = [time.perf_counter()]
        for _ in range(2):
            self._scored(lambda: score_all(self._objectives, runner, "search", draw))
            times.append(time.perf_counter())
        return Timing(times[1] - times[0], times[2] - times[1])

    def use(self, chunk: int) -> None:
        self._run_at_once(chunk)
        self._settled = True

    def _run_at_once(self, chunk: int) -> None:
        assert self._programs is not None and not isinstance(self._programs, FilePrograms), "load() comes first"
        self._chunk, self._home = chunk, self._home.at(chunk)
        self._programs = self._programs.at_once(chunk)

    def identities(self, genomes: np.ndarray) -> list[bytes]:
        return identities(self._values(genomes))

    def evaluate(
        self,
        genomes: np.ndarray,
        split: str = "search",
        draw: int | None = None,
        block: Block | None = None,
        exact: bool = False,
    ) -> list[Result]:
        def score(places: list[int]) -> list[Result]:
            started = time.perf_counter()
            runner = self._candidates(genomes[places], exact)
            scores = self._scored(lambda: score_all(self._objectives, runner, split, draw, block))
            seconds = (time.perf_counter() - started) / len(places)
            results = [_result(scores, index, seconds) for index in range(len(places))]
            return results if block is None else [self._spread(scores, result, split) for result in results]

        keys = [(key, split, draw, block, exact) for key in self.identities(genomes)]
        return self._memory.recall(keys, score)

    def gradients(self, genomes: np.ndarray, draw: int | None = None) -> list[Result]:
        relaxed = self._relaxed()
        return [gradient_at(genome, relaxed, self._objectives, self.weights, draw) for genome in genomes]

    def linearised(self, genome: np.ndarray, draw: int | None = None) -> Linearised:
        return linearised_at(genome, self._relaxed(), self._objectives, draw)

    @property
    def gradient_scores(self) -> bool:
        return self._smooth and all(objective.reference("search").is_score for objective in self._objectives)

    def relaxed(self, start: np.ndarray) -> np.ndarray:
        return start

    def relaxed_origin(self, origin: str) -> str:
        return origin

    def tightened(self, genome: np.ndarray) -> np.ndarray:
        return genome

    def ingredients(self, candidate: Candidate) -> list[dict[str, Any]]:
        return []

    def write_adapters(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def adapted(self, folder: Path) -> Mapping[str, str]:
        return {}

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        started = time.perf_counter()
        runner = self._untuned(candidate) if isinstance(candidate, Untuned) else self._candidates(candidate[None], True)
        judges = self._judges(candidate)
        scores = self._scored(lambda: score_all(judges, runner, split))
        result = _result(scores, 0, time.perf_counter() - started)
        if result.score is None:
            return Measurement(result, {})
        texts = {o.name: texts for o in judges if (texts := texts_of(o, split, scores.scored[o.name]))}
        return Measurement(result, dict(result.examples or {}), texts)

    def _spread(self, scores: Scores, result: Result, split: str) -> Result:
        """The result of a block with its examples at their places among all of the split."""
        if result.examples is None:
            return result
        spread = {}
        for objective in self._objectives:
            places = scores.scored[objective.name].places
            spread[objective.name] = np.full(objective.splits()[split], np.nan, np.float32)
            spread[objective.name][slice(None) if places is None else places] = result.examples[objective.name]
        return replace(result, examples=spread)

    def _judges(self, candidate: Candidate) -> Sequence[Objective]:
        """The objectives as a candidate's tokenizer has them."""
        return self._objectives

    def _candidates(self, genomes: np.ndarray, exact: bool = False) -> Runner:
        assert self._programs is not None, "load() comes first"
        return self._programs.candidates(self._values(genomes))

    def _single(self, params: Params, config: DecoderConfig, table: Table) -> Runner:
        # All lie in one way on the devices of one candidate, so that every untuned merge runs in the same program.
        place = Placement.of(config, own_row(self._mesh))
        lying = {path: place.sharding(table.axes(table[path])) for path in params}
        shards = place.vocabulary_shards
        placed = jax.device_put(params, lying)
        return SingleModel(placed, config, self._dtype, vocabulary_shards=shards, cache=self._cache)

    @property
    def _out_dtype(self) -> np.dtype:
        return np.dtype(jnp.dtype(self._config.output.dtype or self._dtype))

    def _scored(self, score: Callable[[], Scores]) -> Scores:
        with counted() as compilations:
            scores = score()
        self._compiles += compilations.count
        return scores


def _result(scores: Scores, index: int, seconds: float) -> Result:
    by_objective = {name: _number(values[index]) for name, values in scores.by_objective.items()}
    error = scores.errors[index]
    score = None if error is not None else _number(scores.scores[index])
    examples = None if score is None else {name: scored.examples[index] for name, scored in scores.scored.items()}
    return Result(score, float(scores.ties[index]), by_objective, seconds, error, examples)


def _cost(objective: Objective) -> np.ndarray:
    if isinstance(objective, PreparedObjective):
        return objective.tokens("search")
    return np.ones(objective.splits().get("search", 0), np.int64)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
