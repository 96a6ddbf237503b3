"""The demo: the whole road on the models that ship with it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmerge.search.progress import Report
    from jaxmerge.search.run import Run

CONFIG = Path(__file__).with_name("evolve.yaml")


def run_demo(out: Path, progress: "Report | None" = None, overrides: Sequence[str] = ()) -> "Run":
    """Run the shipped search into the folder `out`, or go on with one that was interrupted there.

    progress, overrides: as for `jaxmerge.evolve`.
    One device a core is used, where `JAX_NUM_CPU_DEVICES` does not say otherwise; jax reads it when it starts, so call
    this before anything else has used jax.
    """
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    from jaxmerge import evolve

    return evolve(CONFIG, out, overrides=overrides, progress=progress)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
