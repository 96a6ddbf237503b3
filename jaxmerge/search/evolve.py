"""A run from beginning to end: baselines, start, search, random search, validation, test, export.

Every step can be interrupted at any moment; the same call goes on where it stood.
"""

import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.errors import InputError, Interrupted
from jaxmerge.merging.card import CARD, RECIPE
from jaxmerge.runtime.log_file import logged_to
from jaxmerge.runtime.object_store import is_remote
from jaxmerge.runtime.termination import termination_interrupts
from jaxmerge.search import resolved
from jaxmerge.search.algorithms.registry import Algorithm, RandomSearch, algorithm, choose, several
from jaxmerge.search.baselines import Untuned, has_random_search, parents, stages_of
from jaxmerge.search.best_recipe import best_recipe, with_adapters
from jaxmerge.search.chunk import measured
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig, warm_start_of
from jaxmerge.search.engine import Build, Engine
from jaxmerge.search.evaluation.report import examined
from jaxmerge.search.evaluation.scorer import require_evaluable, scorer
from jaxmerge.search.examples import Examples
from jaxmerge.search.finalists import Place, best_places, first_error
from jaxmerge.search.finalists import choose as choose_finalist
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.front import fronts_of
from jaxmerge.search.gradient_start import descend, followed, forwards
from jaxmerge.search.history import Generation, History
from jaxmerge.search.limits import limit_of
from jaxmerge.search.lock import locked
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.measurements import Measurements, context_of
from jaxmerge.search.opening import opening
from jaxmerge.search.progress import Progress, Report
from jaxmerge.search.publish import Publish
from jaxmerge.search.run import Run, engine_of
from jaxmerge.search.screening.report import screened
from jaxmerge.search.screening.screen import Screen, require_screenable
from jaxmerge.search.several import require_several
from jaxmerge.search.shared import Part, taking_part
from jaxmerge.search.snapshot import Snapshots
from jaxmerge.search.stages import Leg, legs
from jaxmerge.search.summary import as_json, summarize
from jaxmerge.search.verdict import Verdict

log = logging.getLogger("jaxmerge")


def evolve(
    config: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    progress: Report | None = None,
    publish: Publish | None = None,
    build: Build = engine_of,
) -> Run:
    """Search for the best merge, export it, and give back the run. An unfinished run in `out` is resumed.

    config: a YAML file, or its content as plain Python. out: a path, or the URL of a folder in an object store.
    overrides: `search.generations=5` each.
    progress: called after each generation and each other measurement.
    Raises InputError for wrong input before any weight is read, CheckpointError for models that do not fit, Interrupted
    on SIGINT and SIGTERM.
    """
    with taking_part(out) as part:
        wanted = resolved.read_config(config, overrides)
        stages = legs(wanted, part.folder)
        first = _ready(stages[0], part, build)
        for leg in stages[1:]:
            if leg.checkable is not None:
                _ready(replace(leg, config=leg.checkable), part, build)
        whole = stages[-1].folder
        whole.require_free()
        if not part.leads:
            progress = publish = None
        try:
            # One lock for all stages, which write to one history.
            with termination_interrupts() as check, locked(whole.lock), whole.removed_if_refused():

                def report(event: Progress) -> None:
                    check()
                    part.keep()
                    if progress:
                        progress(event)

                for place, leg in enumerate(stages):
                    ready = first if place == 0 else _ready(leg, part, build)
                    later = any(after.folder.config.is_file() for after in stages[place + 1 :])
                    _run(leg.folder, ready, part, report, publish, settled=later)
        except KeyboardInterrupt:
            raise Interrupted(f"{part.out}: interrupted; the same command goes on") from None
    return Run(part.folder, build, str(out) if is_remote(out) else None)


@dataclass(frozen=True)
class _Ready:
    """A search that was checked and reads no weights yet."""

    config: EvolveConfig
    engine: Engine
    algorithm: Algorithm


def _ready(leg: Leg, part: Part, build: Build) -> _Ready:
    wanted = leg.config
    if leg.folder.config.is_file():
        wanted = resolved.as_placed(wanted, resolved.read_recorded(leg.folder.config))
    engine = part.engine(build(wanted), leg.folder)
    made = algorithm_of(wanted, engine)
    require_usable(wanted, engine, made)
    _ = engine.chosen
    return _Ready(wanted, engine, made)


def _run(
    folder: RunFolder, ready: _Ready, part: Part, progress: Report, publish: Publish | None, settled: bool
) -> None:
    """One search, from wherever it stands to its end. settled: a later stage has begun with what it found, so that it
    is not taken further."""
    folder.require_free()
    final = resolved.resolve(ready.config, ready.engine, ready.algorithm)
    if folder.config.is_file():
        recorded = resolved.read_recorded(folder.config)
        resolved.require_same(recorded, final, folder.path)
        ends = not settled and part.leads
        if ends and (changed := resolved.changed_end(recorded, final)):
            warnings.warn(f"{folder.path}: {changed}", stacklevel=2)
    part.require_alike(final)
    if settled and folder.model.is_dir():
        return
    with logged_to(part.log(folder)):
        folder.write(folder.config, resolved.as_yaml(final))
        _Evolution(final, folder, ready.engine, ready.algorithm, progress, publish).run()


def algorithm_of(config: EvolveConfig, engine: Engine) -> Algorithm:
    """The search algorithm that a config names, for the engine's space."""
    population = config.search.population
    return algorithm(
        choose(config.search.algorithm, engine.dimension),
        engine.dimension,
        population=None if population == "auto" else int(population),
        sigma=config.search.sigma,
        options=config.search.options,
        folder=config.folder,
        objectives=len(config.objectives),
        positions=engine.positions,
        binary=engine.binary,
    )


def require_usable(config: EvolveConfig, engine: Engine, algorithm: Algorithm) -> None:
    """Checks what can be checked before the models are loaded."""
    if config.report and config.report.wandb and find_spec("wandb") is None:
        raise InputError("report.wandb: needs wandb; pip install jaxmerge[wandb], or remove the key")
    if "search" not in engine.splits:
        raise InputError("objectives: every objective needs data.search")
    _ = engine.baselines
    require_several(config, engine, algorithm, limit_of(config).total(algorithm.population))
    require_evaluable(config, engine)
    require_screenable(config, engine, algorithm)
    if config.search.start not in ("baseline", "center"):
        engine.start(config.folder / config.search.start)


@dataclass
class _Evolution:
    """One run at work. config: resolved."""

    config: EvolveConfig
    folder: RunFolder
    engine: Engine
    algorithm: Algorithm
    progress: Report
    publish: Publish | None
    # The untuned merges' scores of the search examples.
    answered: list[dict[str, np.ndarray]] = field(default_factory=list)

    def run(self) -> None:
        history = History.read(self.folder.history, self.algorithm.population, self.folder.populations())
        if self._is_done(history):
            log.info("already done")
            return
        history.repair()
        log.info("%s", self.engine.placed)
        self.progress(Progress("loading", 0, None))
        self.engine.load()
        # Not before: where a weight is refused, that is all there is to say.
        self.progress(Progress("loading", 0, None, note=self.engine.placed))
        self._choose_chunk()
        if self.publish:
            self.publish.started(self.folder.path, self.config, self.engine.locations)
        measurements = Measurements(self.folder.measurements, self.engine, context_of(self.engine))
        merges = (*parents(self.config), *self.engine.baselines)
        self._measure(measurements, "baselines", merges)
        known = [measurements.of(merge.name, merge, "search").examples for merge in merges]
        self.answered = [examples for examples in known if examples]
        start, origin = self._start(measurements)
        if self.config.search.warm_start is not None:
            snapshots = Snapshots(self.folder.snapshots, warm_start_of(self.config.stage))
            start, origin = descend(self.config, self.engine, history, start, origin, snapshots, self.progress)
        first = opening(self.config, self.engine, history, start)
        found = self._search(history, start)
        control = self._random_search(history)
        self._verdict(history, measurements, merges, first, found, control, origin)

    def _choose_chunk(self) -> None:
        """Once for a run: what its bits depend on is recorded."""
        if self.config.runtime.chunk != "auto":
            return
        chunk, why = measured(self.config, self.engine, self.algorithm.population, limit_of(self.config))
        self.engine.use(chunk)
        log.info("%s", why)
        self.progress(Progress("loading", 0, None, note=why))
        self.config = self.config.running(chunk=chunk)
        self.folder.write(self.folder.config, resolved.as_yaml(self.config))

    def _is_done(self, history: History) -> bool:
        """Whether the outputs are those of this history and the search has reached its end."""
        summary = self.folder.read_summary()
        stage = self.config.stage
        if (
            not summary
            or summary.get("history") != history.digest_of(*stages_of(self.config))
            or not self.folder.model.is_dir()
        ):
            return False
        done, population = history.count(stage), self.algorithm.population
        if not limit_of(self.config).reached(done, population, history.seconds(stage)):
            return False
        if self.publish and not (self.folder.path / "report.html").exists():
            self.publish.report(self.folder.path)
        return True

    def _measure(self, measurements: Measurements, step: str, merges: Sequence[Untuned], split: str = "search") -> None:
        for done, merge in enumerate(merges):
            if not measurements.known(merge.name, split):
                self.progress(Progress(step, done, len(merges)))
                result = measurements.of(merge.name, merge, split).result
                log.info("%s on %s: %s", merge.name, split, result.error or f"{result.score:.6g}")
        self.progress(Progress(step, len(merges), len(merges)))

    def _start(self, measurements: Measurements) -> tuple[np.ndarray, str]:
        """The first mean, and what it is."""
        wanted = self.config.search.start
        start: np.ndarray | None = None
        if wanted == "baseline":
            merges = self.engine.starts
            places = [
                Place(merge.name, 0, index, np.array([index]), measurements.of(merge.name, merge, "search").result)
                for index, merge in enumerate(merges)
            ]
            for place in sorted(places, key=lambda place: _order(place), reverse=True):
                if place.result.score is not None and (start := self.engine.start(merges[place.index])) is not None:
                    return start, place.stage
        elif wanted != "center":
            start = self.engine.start(Path(wanted))
        if start is not None:
            return start, wanted
        center = self.engine.start(None)
        assert center is not None
        return center, "center"

    def _search(self, history: History, start: np.ndarray) -> list[Generation]:
        stage = Stage(
            name=self.config.stage,
            algorithm=self.algorithm,
            start=start,
            seed=self.config.search.seed,
            limit=limit_of(self.config),
            resolution=self.engine.resolution,
            objectives=tuple(objective.name for objective in self.config.objectives),
        )
        wanted = self.config.search.screening
        screen = Screen(self.algorithm, self.engine, wanted, history, stage.name) if wanted else None
        return self._searched(stage, history, screen)

    def _random_search(self, history: History) -> list[Generation]:
        """As many candidates as the search and the stages before it have cost."""
        if not has_random_search(self.config):
            return []
        searches = (*self.config.earlier, self.config.stage)
        candidates = sum(forwards(history, stage) for stage in searches)
        # Shares of a cost add up to it only almost.
        generations = math.ceil(round(candidates, 6) / self.algorithm.population)
        control = RandomSearch(self.algorithm.population, self.engine.dimension)
        start = np.full(self.engine.dimension, 0.5, np.float32)
        stage = Stage(RANDOM_SEARCH, control, start, self.config.search.seed, Limit(generations=generations))
        return self._searched(stage, history)

    def _searched(self, stage: Stage, history: History, screen: Screen | None = None) -> list[Generation]:
        def report(event: Progress) -> None:
            log.info(
                "%s generation %d: best %s, mean %s, failed %d",
                event.stage,
                event.done,
                event.best,
                event.mean,
                event.failed,
            )
            self.progress(event)

        total = stage.limit.total(stage.algorithm.population)
        self.progress(Progress(stage.name, history.count(stage.name), total))
        score = scorer(self.config, self.engine, history, stage.name, self.answered)
        if several(stage.algorithm) == "gradient":
            score = followed(score, self.engine)
        snapshots, examples = Snapshots(self.folder.snapshots, stage.name), Examples(self.folder.examples / stage.name)
        found = search(stage, score, history, snapshots, report, examples, screen)
        if not best_places(found, 1):
            raise InputError(f"{self.folder.path}: every candidate of '{stage.name}' failed: {first_error(found)}")
        return found

    def _verdict(
        self,
        history: History,
        measurements: Measurements,
        merges: Sequence[Untuned],
        first: Sequence[Generation],
        found: Sequence[Generation],
        control: Sequence[Generation],
        origin: str,
    ) -> None:
        # Draws differ between generations, and races end early: only the whole of the data compares finalists fairly.
        cheap = self.config.search.evaluation.kind != "full"
        whole = "search" if self.engine.sampled or cheap or self.engine.approximates else None
        split = "validation" if "validation" in self.engine.splits else whole
        self.progress(Progress("validation", 0, None))
        fronts = fronts_of(self.config, self.engine, self.algorithm)
        front = fronts.of([*first, *found], measurements) if fronts else []
        rivals = fronts.of(control, measurements) if fronts else best_places(control, identify=self.engine.identities)
        pick = fronts.choose if fronts else choose_finalist
        ranked = best_places([*first, *found], identify=self.engine.identities)
        # What the search set out from is compared on the data that decides, however it did on the search data.
        finalists = front or ranked + [place for place in best_places(first) if place.name not in _names(ranked)]
        best = pick(finalists, measurements, split)
        rival = pick(rivals, measurements, split) if rivals else None
        if "test" in self.engine.splits:
            self._measure(measurements, "test", merges, "test")
        verdict = Verdict(self.config, self.engine, measurements, best, rival, tuple(merges), split)
        summary = summarize(verdict, self.config, history, origin)
        if fronts:
            self.progress(Progress("front", 0, None))
            summary |= fronts.summary(front, rivals, measurements, self.engine.splits)
        if cheap:
            raced = [place for place in finalists if place.stage == self.config.stage]
            summary["evaluation"] = examined(self.config, self.engine, measurements, found, raced)
            log.info("evaluation: %s", summary["evaluation"])
        if self.config.search.screening is not None:
            summary["screening"] = screened(self.engine, history.stage(self.config.stage), best.genome)
        recipe = self._recipe(best, summary)
        self.progress(Progress("export", 0, None))
        self.folder.write(self.folder.best, recipe)
        self.folder.replace(self.folder.model, lambda part: self._export(best, part, summary, recipe))
        self.folder.write(self.folder.summary, as_json(summary))
        if self.publish:
            self.publish.report(self.folder.path)

    def _recipe(self, best: Place, summary: Mapping[str, Any]) -> str:
        recipe = self.engine.recipe(best.genome)
        own = {
            **recipe.get("jaxmerge", {}),
            "seed": self.config.search.seed,
            "candidate": f"{best.stage}:{best.generation}:{best.index}",
            "scores": {
                "search": summary["best_score"],
                "validation": summary["validation_score"],
                "test": summary["test_score"],
            },
        }
        documents = [*self.engine.ingredients(best.genome), {**recipe, "jaxmerge": own}]
        documents = with_adapters(documents, self.engine, self.folder)
        return best_recipe(documents, self.folder.path, self.config)

    def _export(self, best: Place, part: Path, summary: Mapping[str, Any], recipe: str) -> None:
        self.engine.export(best.genome, part)
        (part / RECIPE).write_text(recipe, encoding="utf-8")
        if self.publish:
            text = self.publish.card(self.config, self.engine.locations, summary, recipe)
            (part / CARD).write_text(text, encoding="utf-8")


def _names(places: Sequence[Place]) -> set[str]:
    return {place.name for place in places}


def _order(place: Place) -> tuple[float, float]:
    score, tie = place.result.score, place.result.tie
    return (-np.inf if score is None else score, tie if np.isfinite(tie) else -np.inf)
