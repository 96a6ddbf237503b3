"""A run and what came of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.search.baselines import stages_of
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Build, Engine
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.history import History
from jaxmerge.search.resolved import read_recorded


def engine_of(config: EvolveConfig) -> Engine:
    """The engine that a config asks for."""
    if config.space.kind == "dataflow":
        from jaxmerge.search.engines.dataflow import DataflowEngine

        return DataflowEngine(config)
    if config.space.kind == "joint":
        from jaxmerge.search.engines.joint import JointEngine

        return JointEngine(config)
    if config.space.kind == "low_rank":
        from jaxmerge.search.engines.low_rank import LowRankEngine

        return LowRankEngine(config)
    from jaxmerge.search.engines.parameter import ParameterEngine

    return ParameterEngine(config)


@dataclass(frozen=True)
class Run:
    """A run's folder, finished or not. home: where the folder is a copy of that, its URL.

    Raises InputError where the folder is no run's."""

    folder: Path
    build: Build = engine_of
    home: str | None = None

    def __post_init__(self) -> None:
        RunFolder(self.folder).require_run()

    @cached_property
    def config(self) -> EvolveConfig:
        """The resolved config."""
        return read_recorded(RunFolder(self.folder).config)

    @cached_property
    def history(self) -> History:
        """All candidates of the generations that are complete."""
        assert isinstance(self.config.search.population, int)
        folder = RunFolder.at(self.folder)
        return History.read(folder.history, self.config.search.population, folder.populations())

    @property
    def stages(self) -> dict[str, "Run"]:
        """The runs of the earlier stages, by name."""
        return {name: Run(RunFolder.at(self.folder).stage(name).path, self.build) for name in self.config.earlier}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds. Raises InputError where the run is not done."""
        summary = RunFolder(self.folder).read_summary()
        if summary is None:
            raise InputError(f"{self.folder}: the run is not done; the command that started it goes on with it")
        return summary

    @property
    def best(self) -> dict[str, Any]:
        """The best recipe, as best.yaml holds it; of several merges the last, which uses the others by name."""
        best: dict[str, Any] = Document.read_all(RunFolder(self.folder).best)[-1].data
        return best

    def export(self, path: str | Path, candidate: tuple[int, int] | tuple[str, int, int] | None = None) -> Path:
        """Write a candidate as an HF folder and give back its path.

        candidate: generation and index in the main search, or before them a stage of the history; None: the best.
        Raises InputError where there is none, or where the models have changed since the run.
        """
        from jaxmerge.converters.output_folder import require_absent
        from jaxmerge.search.resolved import on_any_mesh, require_same_models

        out = Path(path)
        require_absent(out, force=None)
        stage, generation, index = self._place(candidate)
        generations = self.history.stage(stage)
        if not 0 <= generation < len(generations):
            raise InputError(f"{self.folder}: has generations 0 to {len(generations) - 1}, not {generation}")
        found = generations[generation]
        if not 0 <= index < len(found.genomes):
            raise InputError(f"{self.folder}: has candidates 0 to {len(found.genomes) - 1}, not {index}")
        engine = self.build(on_any_mesh(self.config))
        require_same_models(self.config, engine, self.folder)
        engine.export(found.genomes[index], out)
        return out

    def _place(self, candidate: tuple[int, int] | tuple[str, int, int] | None) -> tuple[str, int, int]:
        if candidate is not None and len(candidate) == 3:
            if candidate[0] not in stages_of(self.config):
                known = ", ".join(stages_of(self.config))
                raise InputError(f"{self.folder}: has no candidates of '{candidate[0]}' to export; name one of {known}")
            return candidate
        if candidate is not None:
            return self.config.stage, *candidate
        best = self.summary["best"]
        return best["stage"], best["generation"], best["index"]
