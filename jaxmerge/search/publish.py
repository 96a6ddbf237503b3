"""What a search leaves for people to read is made by others, who stand above it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxmerge.converters.reference import Location
from jaxmerge.search.config import EvolveConfig


class Publish(Protocol):
    """What is made of a run for people to read."""

    def started(self, folder: Path, config: EvolveConfig, locations: Mapping[str, Location]) -> None:
        """Keep what the report will need of the models. folder: the run's. locations: of the models."""
        ...

    def card(
        self, config: EvolveConfig, locations: Mapping[str, Location], summary: Mapping[str, Any], recipe: str
    ) -> str:
        """The text of the model's README.md. config: resolved. locations: of the models. recipe: best.yaml's text."""
        ...

    def report(self, folder: Path) -> None:
        """Write report.html into the run's folder."""
        ...
