"""The write-ahead log of a run: one line of JSON a candidate, written a generation at a time.

It is the truth about a run. What a killed process left behind is repaired when the log is opened for writing:
a line that is only half there, and a generation that is not complete, are dropped and evaluated again.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from jaxmerge.converters.output_folder import full_disk_named
from jaxmerge.errors import InputError
from jaxmerge.search.result import Result

# Numbers that only some results have.
PLAIN = ("left", "estimate", "forwards", "drawn", "predicted")


@dataclass(frozen=True)
class Generation:
    """A complete generation. genomes: float32 `[P, d]`; results: P."""

    stage: str
    number: int
    genomes: np.ndarray
    results: tuple[Result, ...]


@dataclass
class History:
    """The complete generations of a run, in the order they were written.

    population: candidates in every generation. others: the same of other stages than this run's, by name.
    length: bytes of the file that belong to complete generations.
    """

    file: Path
    population: int
    others: Mapping[str, int] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    length: int = 0
    _hash: Any = field(default_factory=xxhash.xxh3_64)
    _hashes: dict[str, Any] = field(default_factory=dict)
    _marks: set[tuple[int, str]] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, file: Path, population: int, others: Mapping[str, int] | None = None) -> "History":
        """What the file holds; it is not touched, and may be growing. A cut last line or generation is left
        out.

        Raises InputError naming the line that is no record or out of order.
        """
        history = cls(file, population, others or {})
        raw = file.read_bytes() if file.exists() else b""
        genomes: list[np.ndarray] = []
        results: list[Result] = []
        position = 0
        lines = raw.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            position += len(line)
            try:
                record = json.loads(line)
                stage, generation, index = record["stage"], record["generation"], record["index"]
                genomes.append(np.array(record["genome"], np.float32))
                results.append(_result(record))
            except (ValueError, KeyError, TypeError, AttributeError):
                if number == len(lines):
                    break
                raise InputError(f"{file}:{number}: is no record of a candidate; restore the file") from None
            if generation != history.count(stage) or index != len(genomes) - 1:
                raise InputError(
                    f"{file}:{number}: generation {generation} of '{stage}' is out of order; restore the file"
                )
            if len(genomes) == history.others.get(stage, population):
                history._keep(
                    Generation(stage, generation, np.stack(genomes), tuple(results)),
                    raw[history.length : position],
                )
                genomes, results = [], []
        return history

    def repair(self) -> None:
        """Cut off what follows the complete generations. Only for the one process that holds the run's
        lock."""
        if self.file.exists() and self.file.stat().st_size > self.length:
            with self.file.open("r+b") as file:
                file.truncate(self.length)
                os.fsync(file.fileno())

    def append(self, generation: Generation) -> None:
        """Write a generation, and return when it is on the disk."""
        text = "".join(_line(generation, index) + "\n" for index in range(len(generation.results)))
        raw = text.encode()
        with full_disk_named(self.file.parent), self.file.open("ab") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        self._keep(generation, raw)

    def stage(self, name: str) -> list[Generation]:
        """The generations of a stage, in order."""
        return [generation for generation in self.generations if generation.stage == name]

    def count(self, stage: str) -> int:
        """How many generations a stage has."""
        return self._counts[stage]

    def seconds(self, stage: str) -> float:
        """Evaluation time of a stage so far, of all processes that ever worked on it."""
        return sum(result.seconds for generation in self.stage(stage) for result in generation.results)

    def candidates(self, stage: str) -> int:
        """How many candidates a stage has."""
        return sum(len(generation.results) for generation in self.stage(stage))

    def forwards(self, stage: str) -> float:
        """What a stage has cost so far, see `costs`."""
        results = [result for generation in self.stage(stage) for result in generation.results]
        return sum(1 if result.forwards is None else result.forwards for result in results)

    def digest_of(self, *stages: str) -> str:
        """Hash of the bytes of some stages' complete generations."""
        parts = [self._hashes[stage].hexdigest() for stage in stages if stage in self._hashes]
        return xxhash.xxh3_64("".join(parts).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """Hash of the complete generations' bytes."""
        return self._hash.hexdigest()

    def begins_with(self, length: int, digest: str) -> bool:
        """Whether the first `length` bytes are complete generations with this digest."""
        return (length, digest) in self._marks

    def _keep(self, generation: Generation, raw: bytes) -> None:
        self.generations.append(generation)
        self._counts[generation.stage] += 1
        self.length += len(raw)
        self._hash.update(raw)
        self._hashes.setdefault(generation.stage, xxhash.xxh3_64()).update(raw)
        self._marks.add((self.length, self.digest))


def decimals(genome: np.ndarray) -> list[float]:
    """The shortest decimals that read back to the same float32."""
    short = [float(str(value)) for value in np.asarray(genome, np.float32)]
    return [s if np.float32(s) == value else float(value) for s, value in zip(short, genome, strict=True)]


def _line(generation: Generation, index: int) -> str:
    result = generation.results[index]
    record = {
        "stage": generation.stage,
        "generation": generation.number,
        "index": index,
        "genome": decimals(generation.genomes[index]),
        "score": result.score,
        "tie": result.tie if math.isfinite(result.tie) else None,
        "scores": result.scores,
        "seconds": round(result.seconds, 6),
        "error": result.error,
    }
    record |= {key: value for key in PLAIN if (value := getattr(result, key)) is not None}
    if result.seen is not None:
        record["seen"] = {name: _shortest(values) for name, values in result.seen.items()}
    if result.gradient is not None:
        record["gradient"] = decimals(result.gradient)
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _shortest(values: np.ndarray) -> list[float | None]:
    """Decimals that read back, without a point where they are whole; None where an example was not seen."""
    return [None if math.isnan(v) else int(v) if v.is_integer() else v for v in decimals(values)]


def _result(record: dict[str, Any]) -> Result:
    tie = record["tie"]
    return Result(
        score=None if record["score"] is None else float(record["score"]),
        tie=math.nan if tie is None else float(tie),
        scores=dict(record["scores"]),
        seconds=float(record["seconds"]),
        error=record["error"],
        seen=_seen(record.get("seen")),
        left=record.get("left"),
        estimate=record.get("estimate"),
        forwards=record.get("forwards"),
        drawn=record.get("drawn"),
        predicted=record.get("predicted"),
        gradient=np.array(record["gradient"], np.float32) if "gradient" in record else None,
    )


def _seen(recorded: dict[str, list[float | None]] | None) -> dict[str, np.ndarray] | None:
    return None if recorded is None else {name: np.array(v, np.float32) for name, v in recorded.items()}


def clean(results: Sequence[Result]) -> tuple[Result, ...]:
    """Results as the history can hold them: a score that is no number is a failed candidate."""
    return tuple(_clean(result) for result in results)


def _clean(result: Result) -> Result:
    scores = {name: _finite(value) for name, value in result.scores.items()}
    score = _finite(result.score)
    error = result.error or (None if score is not None else f"the score is {result.score}")
    tie = float(result.tie) if math.isfinite(result.tie) else math.nan
    gradient = result.gradient if result.gradient is not None and np.isfinite(result.gradient).all() else None
    cleaned = replace(result, score=score, tie=tie, scores=scores, seconds=float(result.seconds), error=error)
    return replace(cleaned, examples=None, gradient=gradient)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
