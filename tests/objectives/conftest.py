"""Objectives over small files, and runners whose answers are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxmerge.objectives.interface import Batch, Objective
from jaxmerge.objectives.loading import build
from jaxmerge.objectives.schema import read_objectives
from jaxmerge.tokens.tokenizer import Tokenizer


def log_probability(before: int, token: int, model: int) -> float:
    return -((before * 7 + token * 13 + model * 5) % 11 + 1) / 4


class FakeRunner:
    """P models whose log-probability of a token is a known function of it and the one before. `speak(prompt, model)`
    gives their outputs as ids."""

    def __init__(self, size: int = 2, speak: Callable[[list[int], int], list[int]] | None = None) -> None:
        self.size = size
        self.speak = speak
        self.stop_ids: tuple[int, ...] = ()
        self.shapes: list[tuple[int, int]] = []

    def likelihood(self, batch: Batch) -> np.ndarray:
        sums = np.full((self.size, batch.size), np.nan, np.float32)
        for bucket in batch.buckets:
            self.shapes.append(bucket.tokens.shape)
            for row, index in enumerate(bucket.index):
                places = np.flatnonzero(bucket.valid[row])
                assert not bucket.counted[row][places[0]] and not bucket.counted[row][~bucket.valid[row]].any()
                ids, counted = bucket.tokens[row][places], bucket.counted[row][places]
                if index < 0:
                    assert not counted.any()
                    continue
                for model in range(self.size):
                    pairs = zip(ids[:-1], ids[1:], counted[1:], strict=True)
                    sums[model, index] = sum(log_probability(a, b, model) for a, b, count in pairs if count)
        assert not np.isnan(sums).any(), "every sequence has its row"
        return sums

    def entropy(self, batch: Batch) -> np.ndarray:
        """As if every prediction were as unsure as the token in its place is unlikely."""
        return -self.likelihood(batch)

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        assert self.speak is not None
        self.stop_ids = stop_ids
        output = np.full((self.size, batch.size, max_new_tokens), -1, np.int32)
        for bucket in batch.buckets:
            self.shapes.append(bucket.tokens.shape)
            for row, index in enumerate(bucket.index):
                if index < 0:
                    continue
                assert bucket.valid[row, -1] and not bucket.counted.any()
                prompt = bucket.tokens[row][bucket.valid[row]].tolist()
                for model in range(self.size):
                    for place, token in enumerate(self.speak(prompt, model)[:max_new_tokens]):
                        if token in stop_ids:
                            break
                        output[model, index, place] = token
        return output


@pytest.fixture
def make(tmp_path: Path, word_folder: Path) -> Callable[..., Objective]:
    """`make(examples, **config)`: an objective over the word-level tokenizer; `examples` are those of search, or a
    dictionary of splits."""

    def build_one(examples: Any, folder: Path = word_folder, **config: Any) -> Objective:
        splits = examples if isinstance(examples, dict) else {"search": examples}
        for name, rows in splits.items():
            lines = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(lines)
        data = {name: f"{name}.jsonl" for name in splits}
        configs = read_objectives([{"name": "it", "data": data, **config}])
        return build(configs, Tokenizer.open(folder), tmp_path)[0]

    return build_one


@pytest.fixture
def fake_runner() -> type[FakeRunner]:
    return FakeRunner


@pytest.fixture
def expected_mean() -> Callable[..., float]:
    """The mean log-probability that FakeRunner gives to `ids[place:]`."""

    def mean(ids: list[int], place: int, model: int) -> float:
        return float(np.mean([log_probability(ids[i - 1], ids[i], model) for i in range(place, len(ids))]))

    return mean


@pytest.fixture
def words(word_folder: Path) -> Tokenizer:
    return Tokenizer.open(word_folder)
