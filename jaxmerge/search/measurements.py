"""Scores outside the search: baselines, and finalists on validation and test.

They are kept in the run's state, so that a run killed at the end of a long test does not start it again.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
        """The candidate's scores on a split, measured once a run. name: identifies it within the run.

        A candidate that `scores` has scored on the split comes without examples."""
        if (name, split) not in self._known:
            measured = self.engine.measure(candidate, split)
            self._keep(name, split, replace(measured, result=clean([measured.result])[0]))
        return self._known[name, split]

    def scores(self, genomes: Mapping[str, np.ndarray], split: str) -> list[Result]:
        """The results of genomes by name; those not known yet are scored together, without their examples."""
        missing = [name for name in genomes if (name, split) not in self._known]
        if missing:
            results = self.engine.evaluate(np.stack([genomes[name] for name in missing]), split, exact=True)
            for name, result in zip(missing, clean(results), strict=True):
                self._keep(name, split, Measurement(result, {}))
        return [self._known[name, split].result for name in genomes]

    def known(self, name: str, split: str) -> bool:
        return (name, split) in self._known

    @property
    def seconds(self) -> dict[str, float]:
        """By split."""
        spent: dict[str, float] = {}
        for (_, split), measurement in self._known.items():
            spent[split] = spent.get(split, 0.0) + measurement.result.seconds
        return spent

    def _keep(self, name: str, split: str, measured: Measurement) -> None:
        self._append(name, split, measured)
        self._known[name, split] = replace(measured, texts={})  # for the record only

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
        if split == "test":
            # The report shows some of them side by side, when the models may be gone.
            record["texts"] = {name: texts.record() for name, texts in measured.texts.items()}
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


def context_of(engine: Engine) -> str:
    """What scores depend on besides the candidate: a change of placement or dtype may change bits."""
    return ", ".join(f"{key} {value}" for key, value in sorted(engine.chosen.items()))
