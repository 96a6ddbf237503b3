"""What a search leaves for people to read is made by others, who stand above it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxmerge.search.config import EvolveConfig


class Publish(Protocol):
    """What is made of a run for people to read."""

    def started(self, folder: Path, config: EvolveConfig, folders: Mapping[str, Path]) -> None:
        """Keep what the report will need of the models. folder: the run's. folders: of the models."""
        ...

    def card(self, config: EvolveConfig, folders: Mapping[str, Path], summary: Mapping[str, Any], recipe: str) -> str:
        """The text of the model's README.md. config: resolved. folders: of the models. recipe: best.yaml's text."""
        ...

    def report(self, folder: Path) -> None:
        """Write report.html into the run's folder."""
        ...
