"""Test examples where the merge and its parents differ, side by side, from what the run recorded of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.report.standings import kind_of
from jaxmerge.search.folder import RunFolder

# Of each objective so many that the merge gained, and that it lost; a page's worth, whatever the data.
_GAINED, _LOST = 12, 6


@dataclass(frozen=True)
class Side:
    """One model's part. score: of this example. output: None where nothing is written or chosen."""

    model: str
    score: float
    output: str | None
    merged: bool = False


@dataclass(frozen=True)
class Example:
    """gain: the merge's score minus that of the best parent."""

    prompt: str
    answer: str | None
    sides: tuple[Side, ...]
    gain: float


@dataclass(frozen=True)
class Examples:
    """Of one objective. counts: how many of all test examples are right by whom, where they are right or wrong."""

    objective: str
    gained: tuple[Example, ...]
    lost: tuple[Example, ...]
    counts: tuple[tuple[str, int], ...]


def read(folder: Path, config: Mapping[str, Any], summary: Mapping[str, Any] | None) -> tuple[Examples, ...]:
    """Of each objective whose texts were recorded for the winner and every parent; nothing while the run goes on."""
    best = (summary or {}).get("best")
    if not best:
        return ()
    merged = f"{best['stage']}:{best['generation']}:{best['index']}"
    parents = [str(name) for name in config.get("models") or {} if kind_of(name, config) == "parent"]
    records = _records(RunFolder(folder).measurements, {merged, *parents})
    if set(records) != {merged, *parents}:
        return ()
    found = []
    for objective in records[merged]["texts"]:
        if all(objective in record["texts"] for record in records.values()):
            found.append(_of(objective, [records[name] for name in parents], records[merged], parents))
    return tuple(examples for examples in found if examples.gained or examples.lost)


def _records(file: Path, names: set[str]) -> dict[str, dict[str, Any]]:
    """The last record with texts of each candidate on the test split."""
    found = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            record = json.loads(line)
            if record["split"] == "test" and record["candidate"] in names and record.get("texts"):
                found[record["candidate"]] = record
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short
    return found


def _of(objective: str, parents: Sequence[dict[str, Any]], merged: dict[str, Any], names: Sequence[str]) -> Examples:
    own = np.array(merged["examples"][objective], np.float64)
    others = np.array([record["examples"][objective] for record in parents], np.float64)
    texts = merged["texts"][objective]
    places = np.array(texts["places"])
    gains = (own - others.max(axis=0))[places]
    order = np.argsort(-gains, kind="stable")
    gained, lost = [i for i in order if gains[i] > 0], [i for i in order[::-1] if gains[i] < 0]

    def example(i: int) -> Example:
        sides = [
            Side(name, float(values[places[i]]), _output(record, objective, i))
            for name, values, record in zip(names, others, parents, strict=True)
        ]
        sides.append(Side("evolved", float(own[places[i]]), _output(merged, objective, i), merged=True))
        answers = texts.get("answers")
        return Example(texts["prompts"][i], answers[i] if answers else None, tuple(sides), float(gains[i]))

    return Examples(
        objective,
        tuple(example(i) for i in _spread(gained, gains, _GAINED)),
        tuple(example(i) for i in _spread(lost, gains, _LOST)),
        _counts(own, others),
    )


def _spread(order: list[int], gains: np.ndarray, count: int) -> list[int]:
    """The first ones; where more have the same difference as the last of them, evenly from among those."""
    if len(order) <= count:
        return order
    edge = gains[order[count - 1]]
    sure = [i for i in order if abs(gains[i]) > abs(edge)]
    equal = [i for i in order if gains[i] == edge]
    places = np.linspace(0, len(equal) - 1, count - len(sure)).round().astype(int)
    return sure + [equal[place] for place in places]


def _output(record: dict[str, Any], objective: str, place: int) -> str | None:
    outputs = record["texts"][objective].get("outputs")
    return None if outputs is None else outputs[place]


def _counts(own: np.ndarray, others: np.ndarray) -> tuple[tuple[str, int], ...]:
    everything = np.vstack([own[None], others])
    if not np.isin(everything, (0.0, 1.0)).all():
        return ()
    merged, parent = own == 1, (others == 1).any(axis=0)
    return (
        ("the merge alone", int((merged & ~parent).sum())),
        ("both", int((merged & parent).sum())),
        ("a parent alone", int((~merged & parent).sum())),
        ("none", int((~merged & ~parent).sum())),
    )
