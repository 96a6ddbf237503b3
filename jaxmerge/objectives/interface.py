"""What objectives ask of a model, and what they give back.

An objective turns a data file into token batches once, and afterwards only talks to a `Runner`: something
that runs P models on those batches. Whether these are one stored model or a population of merges is not its
business."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Bucket:
    """Examples of similar length, padded to one shape.

    tokens: int32 `[N, T]`. valid: bool `[N, T]`, False at padding.
    counted: bool `[N, T]`, the tokens whose log-probability counts (never the first valid one); all False for
    prompts.
    index: int64 `[N]`, the place of each sequence in the batch; -1 for a row that only fills the shape.
    """

    tokens: np.ndarray
    valid: np.ndarray
    counted: np.ndarray
    index: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Sequences in buckets. Padding is on the right for likelihood, on the left for prompts.

    size: number of sequences.
    """

    buckets: tuple[Bucket, ...]
    size: int


class Runner(Protocol):
    """P models that can be asked for likelihoods and text."""

    @property
    def size(self) -> int:
        """P."""
        ...

    def likelihood(self, batch: Batch) -> np.ndarray:
        """Sum of the log-probabilities (nats) of the counted tokens of each sequence: float32 `[P, N]`."""
        ...

    def entropy(self, batch: Batch) -> np.ndarray:
        """Sum of the entropies (nats) of the predictions of the counted tokens of each sequence: float32 `[P, N]`."""
        ...

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        """Greedy continuation of each prompt: int32 `[P, N, max_new_tokens]`, -1 from the first stop id on
        (the stop id itself is not given back)."""
        ...


@dataclass(frozen=True)
class Block:
    """One of the blocks into which a split's examples are dealt, so that a few can be scored before the others.

    All blocks have the same shapes, and numbers of examples that differ by one at most. number: from 0, of `count`.
    seed: of the order in which examples are dealt.
    """

    number: int
    count: int
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """An objective's result for P models on N examples.

    examples: float32 `[P, N]`, higher is better. The score of a model is the mean over examples.
    ties: float32 `[P]`, a smooth tie-breaker for discrete scores (mean log-likelihood of the reference
    answer), else zeros.
    prompts: the text each example starts from, `[N]`.
    outputs: the text of each output, or the option chosen, `[P][N]`; None where there is none.
    errors: for each model why it could not be scored (its examples then hold NaN), or None.
    places: int64 `[N]`, where the examples stand in the split's data; None: they are all of it, in its order.
    """

    examples: np.ndarray
    ties: np.ndarray
    prompts: list[str] | None = None
    outputs: list[list[str]] | None = None
    errors: list[str | None] | None = None
    places: np.ndarray | None = None


# What a sequence's counted tokens have that is smooth in the model.
Quantity = Literal["likelihood", "entropy"]


@dataclass(frozen=True)
class Reference:
    """What is smooth in an objective: `sum(shares * quantities)` over the sequences of a batch. It is the mean over
    examples of the mean log-probability of the reference answer's tokens, or minus the mean entropy of predictions.
    shares: float32 `[N]`. is_score: whether this is the objective's score itself."""

    batch: Batch
    shares: np.ndarray
    is_score: bool = False
    quantity: Quantity = "likelihood"


class Objective(Protocol):
    """name and weight come from the config. `discrete`: the score is a share of examples."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def discrete(self) -> bool: ...

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        """Score the runner's models on `search`, `validation` or `test`.

        draw: seeds the draw of the config's `sample` examples, the same for all models and with the same
        shapes for every draw; None: all examples. block: only these of them; given in a race alone."""
        ...

    def reference(self, split: str, draw: int | None = None) -> Reference:
        """What a gradient can follow. Raises InputError where there are no reference answers."""
        ...

    def splits(self) -> dict[str, int]:
        """The splits that have data, with their number of examples."""
        ...
