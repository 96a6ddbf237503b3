"""The engine of a parameter-space search: genomes and untuned merges in, scores, recipes and folders out."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.companions import TOKENIZER, copy_companions
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import load_params, save_params
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.errors import InputError
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Runner
from jaxmerge.objectives.loading import build as build_objectives
from jaxmerge.objectives.single import SingleModel
from jaxmerge.objectives.weighted import Scores, score_all
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import Bank, load_bank, prepare
from jaxmerge.population.merged import Members
from jaxmerge.population.programs import Shape, merged_parameters
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.compilations import counted
from jaxmerge.runtime.dtype import compute_dtype
from jaxmerge.runtime.mesh import population_mesh, replicated
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE, Bounds, EvolveConfig
from jaxmerge.search.engine import Candidate, Measurement
from jaxmerge.search.plan import memory_and_time
from jaxmerge.search.result import Result
from jaxmerge.search.sources import Models, open_models
from jaxmerge.search.warm_start import start_of
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range, Setting, Values
from jaxmerge.spaces.recipe import recipe
from jaxmerge.tokens.tokenizer import Tokenizer

# Candidates at once on a device where the config does not say: mapped one after another. On a busy CPU, with the
# demo's 0.3M parameters, 16 candidates took 3.7 s so, and 5.6 s vmapped by 4 or 8; other sizes were not measured.
CHUNK = 1


class _Finite:
    """A checkpoint whose tensors are checked as they are read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def read(self, name: str) -> np.ndarray:
        array = self.checkpoint.read(name)
        require_finite(f"{self.checkpoint.info(name).file}: tensor '{name}'", array)
        return array


class ParameterEngine:
    """Implements `search.engine.Engine` for `space.kind: parameter`.

    Building one resolves and checks models, tokenizer, data and space, and reads no weights.
    """

    def __init__(self, config: EvolveConfig) -> None:
        self._config = config
        self._models: Models = open_models(config)
        decoder = self._models.config
        self._objectives = build_objectives(
            config.objectives, Tokenizer.open(self._models.tokenizer), config.folder, decoder.vocab_size
        )
        self._operator: Operator = operator(config.space.operator)
        self._groups = Groups.of(self._models.table, Granularity.parse(config.space.granularity))
        self._space = ParameterSpace(self._operator, tuple(config.models), self._groups, _settings(config))
        self._dtype = _dtype(config)
        self._mesh = population_mesh(None if config.runtime.mesh == "auto" else config.runtime.mesh.pop)
        self._chunk = CHUNK if config.runtime.chunk == "auto" else int(config.runtime.chunk)
        self._bank: Bank | None = None
        self._programs: Programs | None = None
        self._compiles = 0

    # What the search asks before it starts.

    @property
    def dimension(self) -> int:
        return self._space.dimension

    @property
    def splits(self) -> tuple[str, ...]:
        common = set.intersection(*(set(objective.splits()) for objective in self._objectives))
        return tuple(split for split in ("search", "validation", "test") if split in common)

    @property
    def examples(self) -> Mapping[str, Mapping[str, int]]:
        return {objective.name: objective.splits() for objective in self._objectives}

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
    def folders(self) -> Mapping[str, Path]:
        models = {name: checkpoint.folder for name, checkpoint in self._models.experts.items()}
        if self._models.base is not None:
            models[BASE] = self._models.base.folder
        return models

    @property
    def tokenizer(self) -> Path:
        return self._models.tokenizer

    @property
    def chosen(self) -> Mapping[str, Any]:
        return {
            "mesh": {"pop": self._mesh.size, "model": 1},
            "bank": "device",
            "chunk": self._chunk,
            "dtype": self._dtype.name,
        }

    @property
    def compiles(self) -> int:
        return self._compiles

    @property
    def devices(self) -> str:
        return f"{self._mesh.size} x {self._mesh.devices.flat[0].device_kind}"

    def plan(self) -> Mapping[str, str]:
        return memory_and_time(
            self._models, self._objectives, self._dtype, block=self._mesh.size * self._chunk, chunk=self._chunk
        )

    # Scoring.

    def load(self) -> None:
        sources = self._sources()
        self._bank = load_bank(self._models.table, *sources, self._place)
        grid = {p.name: self._space.grid(p) for p in self._operator.parameters if p.gridded}
        self._programs = self._programs_of(self._operator, grid, self._groups)

    def evaluate(self, genomes: np.ndarray, split: str = "search", draw: int | None = None) -> list[Result]:
        assert self._programs is not None, "load() comes first"
        started = time.perf_counter()
        runner = self._programs.candidates(self._space.decode(genomes))
        scores = self._scored(lambda: score_all(self._objectives, runner, split, draw))
        seconds = (time.perf_counter() - started) / len(genomes)
        return [_result(scores, index, seconds) for index in range(len(genomes))]

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        started = time.perf_counter()
        if isinstance(candidate, Untuned):
            decoder = self._models.config
            # All on one device in one way, so that every untuned merge runs in the same program.
            params = jax.device_put(self.parameters(candidate), self._mesh.devices.flat[0])
            runner: Runner = SingleModel(params, decoder, self._dtype)
        else:
            assert self._programs is not None, "load() comes first"
            runner = self._programs.candidates(self._space.decode(candidate[None]))
        scores = self._scored(lambda: score_all(self._objectives, runner, split))
        result = _result(scores, 0, time.perf_counter() - started)
        if result.score is None:
            return Measurement(result, {})
        return Measurement(result, {name: scored.examples[0] for name, scored in scores.scored.items()})

    # What becomes of a candidate.

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        if candidate is None:
            return self._space.center()
        values = start_of(candidate, self._space, self._models)
        return None if values is None else self._space.encode(values | _initial(self._config))

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        if isinstance(candidate, Untuned) and candidate.operator is None:
            source = self._models.references[candidate.sources[0]]
            return {
                "merge_method": "passthrough",
                "models": [{"model": source}],
                "dtype": "float32",
                "out_dtype": self._out_dtype.name,
            }
        chosen, values, groups, experts = self._assignment(candidate)
        written = recipe(
            chosen,
            values,
            groups,
            self._models.table,
            models=tuple(self._models.references[name] for name in experts),
            base=self._models.references.get(BASE),
            out_dtype=self._out_dtype.name,
        )
        # By this name an operator of the user's own is found again.
        written["merge_method"] = candidate.operator if isinstance(candidate, Untuned) else self._config.space.operator
        tokenizer = self._models.tokenizer
        if tokenizer != self._models.like.folder:
            written["tokenizer_source"] = str(tokenizer.resolve())
        own = {
            "seed": self._config.search.seed,
            "experts": list(experts),
            "groups": list(groups.names),
            "parameters": {name: _rounded(array) for name, array in values.items()},
        }
        return written | {"jaxmerge": own}

    def export(self, candidate: Candidate, folder: Path) -> None:
        params = self.parameters(candidate)
        with output_folder(folder) as part:
            save_params(
                params,
                self._models.table,
                part,
                like=self._models.like,
                dtype=self._out_dtype,
                max_shard_size=self._config.output.max_shard_size,
            )
            if self._models.tokenizer != self._models.like.folder:
                copy_companions(self._models.tokenizer, part, TOKENIZER)

    def parameters(self, candidate: Candidate) -> Params:
        """The candidate's weights as they are scored: in `runtime.dtype`, stacked over layers."""
        table = self._models.table
        if isinstance(candidate, Untuned) and candidate.operator is None:
            name = candidate.sources[0]
            checkpoint = self._models.base if name == BASE else self._models.experts[name]
            assert checkpoint is not None
            return load_params(checkpoint, table, self._dtype)
        if self._bank is None:
            self.load()
        chosen, values, groups, _ = self._assignment(candidate)
        if not isinstance(candidate, Untuned):
            assert self._programs is not None
            programs = self._programs
        else:
            grid = {p.name: np.unique(values[p.name]).astype(np.float64) for p in chosen.parameters if p.gridded}
            programs = self._programs_of(chosen, grid, groups)
        one = jax.tree.map(jnp.asarray, values)
        return merged_parameters(programs.shape, programs.bank, programs.statistics, one)

    # The parts.

    def _assignment(self, candidate: Candidate) -> tuple[Operator, Values, Groups, tuple[str, ...]]:
        if not isinstance(candidate, Untuned):
            return self._operator, self._space.decode(candidate), self._groups, tuple(self._config.models)
        assert candidate.operator is not None
        chosen = operator(candidate.operator)
        groups = Groups.of(self._models.table, Granularity(whole=True))
        values: Values = {}
        for parameter in chosen.parameters:
            shape = (1, len(candidate.sources)) if parameter.per_source else (1,)
            value = candidate.parameters.get(parameter.name, parameter.default)
            assert value is not None, f"{candidate.name} needs {parameter.name}"
            values[parameter.name] = np.full(shape, value, np.float32)
        return chosen, values, groups, candidate.sources

    def _sources(self) -> tuple[_Finite | None, tuple[_Finite, ...]]:
        base = self._models.base
        return (_Finite(base) if base is not None else None), tuple(map(_Finite, self._models.experts.values()))

    def _programs_of(self, chosen: Operator, grid: Mapping[str, np.ndarray], groups: Groups) -> Programs:
        assert self._bank is not None
        base, experts = self._sources()
        seed = self._config.search.seed
        statistics = prepare(chosen, self._models.table, base, experts, self._place, seed=seed, grid=grid)
        members = Members.of(groups.members)
        shape = Shape(chosen, members, self._models.config, self._dtype, self._mesh, self._chunk)
        return Programs(shape, self._bank, statistics)

    @property
    def _place(self) -> Callable[[np.ndarray], jax.Array]:
        return partial(jax.device_put, device=replicated(self._mesh))

    @property
    def _out_dtype(self) -> np.dtype:
        return np.dtype(jnp.dtype(self._config.output.dtype or self._dtype))

    def _scored(self, score: Callable[[], Scores]) -> Scores:
        with counted() as compilations:
            scores = score()
        self._compiles += compilations.count
        return scores


def _settings(config: EvolveConfig) -> dict[str, Setting]:
    return {
        name: Range(setting.low, setting.high, setting.init) if isinstance(setting, Bounds) else setting
        for name, setting in config.space.parameters.items()
    }


def _initial(config: EvolveConfig) -> dict[str, float]:
    settings = config.space.parameters.items()
    return {name: s.init for name, s in settings if isinstance(s, Bounds) and s.init is not None}


def _dtype(config: EvolveConfig) -> np.dtype:
    """`runtime.dtype`. Only float32 may be narrowed in the export: other changes would round twice, or pretend to more
    than was scored."""
    dtype = compute_dtype(config.runtime.dtype)
    out = np.dtype(jnp.dtype(config.output.dtype or dtype))
    if dtype not in (out, np.dtype(np.float32)):
        raise InputError(
            f"output.dtype: {out.name} cannot hold what is scored in runtime.dtype, {dtype.name}; "
            f"remove it or set runtime.dtype: {out.name}"
        )
    return dtype


def _result(scores: Scores, index: int, seconds: float) -> Result:
    by_objective = {name: _number(values[index]) for name, values in scores.by_objective.items()}
    error = scores.errors[index]
    score = None if error is not None else _number(scores.scores[index])
    return Result(score, float(scores.ties[index]), by_objective, seconds, error)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(array: np.ndarray) -> Any:
    """Nested lists of the shortest decimals that read back to the same float32."""
    if array.ndim:
        return [_rounded(row) for row in array]
    return float(np.format_float_scientific(np.float32(array), unique=True))
