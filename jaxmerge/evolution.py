"""`jaxmerge.evolve`: the search, with what it leaves for people to read: model card and report.

It stands above both, for the search knows nothing of reports.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document
from jaxmerge.merging.card import Parent, local_names
from jaxmerge.report import kinship
from jaxmerge.report.build import build as build_report
from jaxmerge.report.card import model_card
from jaxmerge.report.monitors import Monitors
from jaxmerge.search.config import BASE, EvolveConfig
from jaxmerge.search.evolve import evolve as search
from jaxmerge.search.progress import Progress, Report
from jaxmerge.search.resolved import plain
from jaxmerge.search.run import Run


def evolve(
    config: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    progress: Report | None = None,
) -> Run:
    """Search for the best merge of some models, export it, and give back the run.

    config: an evolve config, as a YAML file or as plain Python (paths are then relative to the working directory).
    out: the run's folder, a path or a URL (gs://bucket/run); an unfinished run there is resumed, and ends with the same
    history and the same best recipe.
    overrides: `search.generations=5` each. progress: called with a `Progress` after each generation.
    Raises InputError and CheckpointError for wrong input before any weight is read, Interrupted on SIGINT and SIGTERM.
    """
    publisher = _Publisher()

    def report(event: Progress) -> None:
        publisher.monitors(event)
        if progress is not None:
            progress(event)

    try:
        return search(config, out, overrides=overrides, progress=report, publish=publisher)
    finally:
        publisher.monitors.close()


class _Publisher:
    """Implements `search.publish.Publish`."""

    def __init__(self) -> None:
        self.monitors = Monitors()

    def started(self, folder: Path, config: EvolveConfig, locations: Mapping[str, Location]) -> None:
        kinship.record(folder, locations)
        self.monitors.start(folder, config)

    def card(
        self, config: EvolveConfig, locations: Mapping[str, Location], summary: Mapping[str, Any], recipe: str
    ) -> str:
        references = {name: config.models[name] for name in config.parents}
        references |= {BASE: config.base} if config.base is not None else {}
        names = local_names(references.values())
        parents = [Parent.of(name, ref, locations[name], names) for name, ref in references.items()]
        title = f"{config.space.title} of {', '.join(config.parents)}, evolved"
        return model_card(
            title,
            parents=parents,
            recipe=recipe,
            summary=summary,
            config=plain(config),
            examples=summary["examples"],
            sharing=Document.parse_all(recipe, Path("best.yaml"))[-1].data["jaxmerge"].get("sharing"),
        )

    def report(self, folder: Path) -> None:
        build_report(folder)
