"""The kinds of target, and the file that says which one is meant."""

from pathlib import Path

from jaxmerge.documents import Document
from jaxmerge.errors import InputError, unknown
from jaxmerge.launch.gke import Gke
from jaxmerge.launch.local import Local
from jaxmerge.launch.skypilot import SkyPilot
from jaxmerge.launch.slurm import Slurm
from jaxmerge.launch.target import Target
from jaxmerge.launch.tpu import Tpu

KINDS: dict[str, type[Target]] = {"local": Local, "tpu": Tpu, "slurm": Slurm, "gke": Gke, "skypilot": SkyPilot}


def read_target(file: Path) -> Target:
    """The target that a YAML file describes. Raises InputError naming file, line and key."""
    document = Document.read(file)
    if not isinstance(document.data, dict) or "kind" not in document.data:
        raise InputError(f"{file}: the key 'kind' is missing; there are: {', '.join(KINDS)}")
    kind = document.data["kind"]
    if kind not in KINDS:
        raise unknown("kind", str(kind), KINDS, document.where(["kind"]))
    return document.validate(KINDS[kind])
