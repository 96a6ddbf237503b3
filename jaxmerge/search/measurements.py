"""Scores outside the search: baselines, and finalists on validation and test.

They are kept in the run's state, so that a run killed at the end of a long test does not start it again.
"""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.output_folder import full_disk_named
from jaxmerge.search.engine import Candidate, Engine, Measurement
from jaxmerge.search.history import clean
from jaxmerge.search.result import Result


@dataclass
class Measurements:
    """context: what the scores depend on besides candidate and split, such as the dtype; others' scores are left."""

    file: Path
    engine: Engine
    context: str
    _known: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.file.read_bytes().splitlines() if self.file.exists() else ():
            try:
                record = json.loads(line)
                if record["context"] == self.context:
                    self._known[record["candidate"], record["split"]] = _measurement(record)
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short, which is measured again

    def of(self, name: str, candidate: Candidate, split: str) -> Measurement:
        """The candidate's scores on a split, measured once a run. name: identifies it within the run."""
        if (name, split) not in self._known:
            measured = self.engine.measure(candidate, split)
            measured = Measurement(clean([measured.result])[0], measured.examples)
            self._append(name, split, measured)
            self._known[name, split] = measured
        return self._known[name, split]

    def examples(self, split: str) -> dict[str, np.ndarray]:
        """The examples of anything that was measured on a split; empty where nothing was."""
        measured = (m.examples for (_, where), m in self._known.items() if where == split)
        return next((examples for examples in measured if examples), {})

    def known(self, name: str, split: str) -> bool:
        return (name, split) in self._known

    @property
    def seconds(self) -> float:
        return sum(measurement.result.seconds for measurement in self._known.values())

    def _append(self, name: str, split: str, measured: Measurement) -> None:
        result = measured.result
        record = {
            "context": self.context,
            "candidate": name,
            "split": split,
            "score": result.score,
            "tie": result.tie if math.isfinite(result.tie) else None,
            "scores": result.scores,
            "seconds": result.seconds,
            "error": result.error,
            "examples": {name: np.asarray(v, np.float64).tolist() for name, v in measured.examples.items()},
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_named(self.file.parent), self.file.open("ab") as file:
            # A new line first: the one before may have been cut short.
            file.write(b"\n" + json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _measurement(record: dict[str, Any]) -> Measurement:
    tie = math.nan if record["tie"] is None else float(record["tie"])
    result = Result(record["score"], tie, record["scores"], record["seconds"], record["error"])
    return Measurement(result, {name: np.array(v, np.float32) for name, v in record["examples"].items()})
