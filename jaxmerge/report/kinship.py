"""How alike a run's models are, measured while they are at hand, for a report that is built when they may be gone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.reference import Location
from jaxmerge.errors import JaxmergeError
from jaxmerge.merging.kinship import Moments, measure_deltas, shared_tensors
from jaxmerge.search.config import BASE
from jaxmerge.search.folder import RunFolder

# Of each tensor this many blocks of a million elements are read: seconds for 7B parameters, all of a small model.
_BLOCKS = 1


@dataclass(frozen=True)
class Kinship:
    """cosine: of every two task vectors, `[K][K]`, None where one is zero. relative: each one's norm by the base's.
    share: of the elements that were read. reason: why there is nothing of it."""

    models: tuple[str, ...] = ()
    cosine: tuple[tuple[float | None, ...], ...] = ()
    relative: tuple[float | None, ...] = ()
    share: float = 1.0
    reason: str | None = None


def record(folder: Path, models: Mapping[str, Location]) -> None:
    """Measure and write `state/kinship.json`, once a run. models: where they are, by name, `base` among them.

    What cannot be measured is recorded with its reason: a report is never worth a run.
    """
    file = _file(folder)
    if file.exists():
        return
    try:
        found = _measured(models)
    except (JaxmergeError, OSError) as error:
        found = {"reason": str(error)}
    file.parent.mkdir(parents=True, exist_ok=True)
    RunFolder(folder).write(file, json.dumps(found, ensure_ascii=False) + "\n")


def read(folder: Path) -> Kinship:
    """What was recorded. A run without a record says so in `reason`."""
    try:
        found = json.loads(_file(folder).read_text(encoding="utf-8"))
        if found.get("reason"):
            return Kinship(reason=str(found["reason"]))
        return Kinship(
            tuple(found["models"]),
            tuple(tuple(row) for row in found["cosine"]),
            tuple(found["relative"]),
            float(found["share"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Kinship(reason="the run has no record of it")


def _measured(models: Mapping[str, Location]) -> dict[str, object]:
    experts = [name for name in models if name != BASE]
    if BASE not in models:
        return {"reason": "task vectors are relative to a base, and the run has none"}
    if len(experts) < 2:
        return {"reason": "the run has a single expert"}
    base, *opened = (open_checkpoint(models[name]) for name in (BASE, *experts))
    names = shared_tensors([base, *opened])
    if not names:
        return {"reason": "the models have no tensor in one shape"}
    groups = measure_deltas(base, opened, blocks_of_each=_BLOCKS)
    total = sum(groups.values(), start=Moments.zero(len(opened)))
    elements = sum(base.tensors[name].nbytes // base.tensors[name].dtype.itemsize for name in names)
    return {
        "models": experts,
        "cosine": total.kinship()["cosine"],
        "relative": [total.delta(k)["relative"] for k in range(len(opened))],
        "share": total.count / elements,
    }


def _file(folder: Path) -> Path:
    return RunFolder(folder).state / "kinship.json"
