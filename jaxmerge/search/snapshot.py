"""Snapshots of an algorithm's state, which shorten the replay of a long history. Losing one costs time
only."""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxmerge.search.history import History

if TYPE_CHECKING:
    from orbax.checkpoint import StandardCheckpointer

FORMAT = 1


@dataclass
class Snapshots:
    """Now and then, the state after a generation of one stage.

    interval: seconds between two; writing one takes about 60 ms and ten files.
    """

    folder: Path
    stage: str
    interval: float = 60.0
    _last: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.folder / self.stage

    def save(self, generation: int, state: Any, history: History) -> None:
        """Store the state after `generation`, if the interval has passed. The one before is kept until it is
        there. A state with an empty array, which Orbax does not store, is left to the history."""
        # Of several processes the first keeps it for all: they work in copies of its folder.
        if time.monotonic() - self._last < self.interval or jax.process_index() > 0:
            return
        if any(np.size(leaf) == 0 for leaf in jax.tree.leaves(state)):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh, old = self.folder / f"{self.stage}.tmp", self.folder / f"{self.stage}.old"
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        with _checkpointer() as checkpointer:
            checkpointer.save(fresh.resolve() / "state", leaves or {"empty": np.zeros(1)})
        about = {
            "format": FORMAT,
            "generation": generation,
            "length": history.length,
            "digest": history.digest,
        }
        (fresh / "about.json").write_text(json.dumps(about))
        if self.path.exists():
            self.path.rename(old)
        fresh.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def load(self, like: Any, history: History) -> tuple[int, Any] | None:
        """The generation and the state of the snapshot; None where there is none that belongs to this
        history.

        like: a state of the same structure.
        """
        try:
            about = json.loads((self.path / "about.json").read_text())
            if about["format"] != FORMAT or not history.begins_with(about["length"], about["digest"]):
                return None
            if about["generation"] >= history.count(self.stage):
                return None
            leaves, structure = jax.tree.flatten(like)
            target = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)} or {"empty": np.zeros(1)}
            with _checkpointer() as checkpointer:
                stored = checkpointer.restore(self.path.resolve() / "state", target)
            restored = [np.asarray(stored[str(i)]) for i in range(len(leaves))]
        except Exception:
            # Whatever is wrong with it, the history has it all.
            return None
        if any(a.shape != np.shape(b) or a.dtype != np.asarray(b).dtype for a, b in zip(restored, leaves, strict=True)):
            return None
        return about["generation"], jax.tree.unflatten(structure, restored)


def _checkpointer() -> "StandardCheckpointer":
    """One that waits for no other process: the states are the same in all."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)
