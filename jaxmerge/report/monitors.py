"""A search's figures for TensorBoard and Weights & Biases, where these are installed. They never break a run."""

import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import xxhash

from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import plain

log = logging.getLogger("jaxmerge")


class Monitor(Protocol):
    """Takes figures by name, such as `parameter/best`. candidates: of their stage, so far."""

    def log(self, stage: str, candidates: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `log/tensorboard` of the run; a run that is resumed begins another file there."""

    def __init__(self, folder: Path) -> None:
        self._writer = importlib.import_module("tensorboardX").SummaryWriter(
            logdir=str(RunFolder(folder).log / "tensorboard")
        )

    def log(self, stage: str, candidates: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{stage}/{name}", value, candidates)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of a project; a run that is resumed goes on there, for its id is made of its folder."""

    def __init__(self, folder: Path, config: EvolveConfig, project: str) -> None:
        path = folder.resolve()
        self._run: Any = importlib.import_module("wandb").init(
            project=project,
            name=path.name,
            id=xxhash.xxh3_64_hexdigest(str(path).encode()),
            resume="allow",
            dir=str(RunFolder(folder).log),
            config=plain(config),
        )
        self._stages: set[str] = set()

    def log(self, stage: str, candidates: int, figures: Mapping[str, float]) -> None:
        if stage not in self._stages:
            self._stages.add(stage)
            # Every stage counts its own candidates; the project's step only goes up.
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/candidates")
        named = {f"{stage}/{name}": value for name, value in figures.items()}
        self._run.log(named | {f"{stage}/candidates": candidates})

    def close(self) -> None:
        self._run.finish()


class Monitors:
    """All of a run. One that fails is left out from then on, with a line in the log."""

    def __init__(self) -> None:
        self._members: list[Monitor] = []

    def start(self, folder: Path, config: EvolveConfig) -> None:
        """Begin with a run, or with the next stage of one."""
        self.close()
        self._add(lambda: TensorBoard(folder))
        project = config.report.wandb if config.report else None
        if project is not None:
            self._add(lambda: WeightsAndBiases(folder, config, project))

    def __call__(self, event: Progress) -> None:
        """Pass on the figures of a generation; other events have none."""
        if not event.candidates:
            return
        found = {
            "best": event.best,
            "mean": event.mean,
            "failed": event.failed,
            "candidates_per_second": event.rate,
        }
        figures = {name: float(value) for name, value in found.items() if value is not None}
        self._each(lambda member: member.log(event.stage, event.candidates, figures))

    def close(self) -> None:
        self._each(lambda member: member.close())
        self._members = []

    def _add(self, make: Callable[[], Monitor]) -> None:
        try:
            self._members.append(make())
        except ImportError:
            pass  # not installed
        except Exception as error:
            log.warning("a monitor is left out: %s: %s", type(error).__name__, error)

    def _each(self, call: Callable[[Monitor], None]) -> None:
        for member in list(self._members):
            try:
                call(member)
            except Exception as error:
                log.warning("%s is left out: %s: %s", type(member).__name__, type(error).__name__, error)
                self._members.remove(member)
