"""Scores of single examples, kept beside the history for algorithms that are told of them.

The history holds means, and is replayed without an evaluation. What is kept here spares one too; a file that is lost,
cut short or does not have the means that the history records costs the evaluation of its generation, and nothing else.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxmerge.converters.output_folder import full_disk_named
from jaxmerge.search.history import Generation
from jaxmerge.search.result import Result

# Of each candidate, float32 `[N]` an objective; None for one that has none.
Scores = Sequence[Mapping[str, np.ndarray] | None]


@dataclass(frozen=True)
class Examples:
    """One stage's, a file a generation: `scores` `[scored candidates, all objectives' examples]`, `index` of the
    candidates, and `names` and `counts` of the objectives."""

    folder: Path

    def save(self, generation: int, scores: Scores) -> None:
        """Keep a generation's; on the disk before its lines of the history are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = [of for of in scores if of is not None]
        first = found[0] if found else {}
        part = self._file(generation).with_suffix(".tmp")
        with full_disk_named(self.folder), part.open("wb") as file:
            np.savez_compressed(
                file,
                index=np.array([index for index, of in enumerate(scores) if of is not None], np.int64),
                names=np.array(list(first), np.str_),
                counts=np.array([len(values) for values in first.values()], np.int64),
                scores=np.array([np.concatenate([of[name] for name in first]) for of in found], np.float32),
            )
        part.replace(self._file(generation))

    def load(self, generation: Generation) -> Scores | None:
        """What was kept of a generation; None where it is not what the history records."""
        scores: list[Mapping[str, np.ndarray] | None] = [None] * len(generation.results)
        try:
            with np.load(self._file(generation.number)) as file:
                ends = np.cumsum(file["counts"])[:-1]
                for index, row in zip(file["index"], file["scores"], strict=True):
                    scores[index] = dict(zip(file["names"].tolist(), np.split(row, ends), strict=True))
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
            return None
        return scores if all(map(_fits, generation.results, scores)) else None

    def _file(self, generation: int) -> Path:
        return self.folder / f"{generation:06d}.npz"


def _fits(result: Result, examples: Mapping[str, np.ndarray] | None) -> bool:
    """Whether a candidate's examples have the means that were recorded."""
    if result.score is None:
        return True
    means = {name: values.mean(dtype=np.float64) for name, values in (examples or {}).items()}
    return set(means) == set(result.scores) and all(
        recorded is not None and np.isclose(means[name], recorded, rtol=1e-9, atol=1e-12)
        for name, recorded in result.scores.items()
    )
