"""What all our objectives share: splits that were validated and tokenised when the objective was made."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.objectives.data import Example, read_examples
from jaxmerge.objectives.interface import Batch, Block, Quantity, Reference, Runner, Scored
from jaxmerge.objectives.schema import SPLITS, ObjectiveConfig
from jaxmerge.objectives.split import Preparer, Split
from jaxmerge.tokens.tokenizer import Tokenizer


class PreparedObjective(ABC):
    """An objective over JSONL data. Making one reads, checks and tokenises every split, so that a mistake in
    the test data shows before a search and not after it.

    discrete: the score is a share of examples. is_smooth: the score is what `reference` gives; not so where a class
    that is built on one has a `score` of its own, unless it says so. quantity: see there.
    """

    discrete: ClassVar[bool]
    is_smooth: ClassVar[bool] = False
    quantity: ClassVar[Quantity] = "likelihood"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "score" in vars(cls) and "is_smooth" not in vars(cls):
            cls.is_smooth = False

    def __init__(self, config: ObjectiveConfig, tokenizer: Tokenizer, folder: Path) -> None:
        """folder: the config's, to which data paths are relative."""
        self.config = config
        self.tokenizer = tokenizer
        self.folder = folder
        shots: list[Example] = []
        if config.few_shot and config.data.few_shot is not None:
            shots = read_examples(folder / config.data.few_shot)[: config.few_shot]
            if len(shots) < config.few_shot:
                raise InputError(
                    f"{config.name}.few_shot: {folder / config.data.few_shot} has {len(shots)} examples, "
                    f"fewer than {config.few_shot}"
                )
        preparer = Preparer(config, tokenizer, shots)
        self._splits: dict[str, Split] = {}
        for name in SPLITS:
            file = getattr(config.data, name)
            if file is not None:
                self._splits[name] = self.prepare(preparer, read_examples(folder / file, config.limit))

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def weight(self) -> float:
        return self.config.weight

    def splits(self) -> dict[str, int]:
        """The splits that have data, with their number of examples."""
        return {name: len(split) for name, split in self._splits.items()}

    def split(self, name: str) -> Split:
        """Raises InputError where the config names no data for it."""
        if name not in self._splits:
            raise InputError(f"{self.name}: no data for split '{name}'; name a file under data.{name}")
        return self._splits[name]

    def tokens(self, split: str) -> np.ndarray:
        """What each example costs: the tokens of its sequences, and as many as may be generated: int64 `[N]`."""
        return self.split(split).tokens(self.config.max_new_tokens)

    @abstractmethod
    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        """Texts and tokens of a split."""

    @abstractmethod
    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        """See `interface.Objective`."""

    def texts(self, split: str, draw: int | None = None, block: Block | None = None) -> Batch | None:
        """The batch of which `score` will ask the likelihood, None where there is none."""
        selection = self.split(split).select(self.config, draw, block)
        return selection.references if selection.split.references and self.quantity == "likelihood" else None

    def reference(self, split: str, draw: int | None = None) -> Reference:
        """See `interface.Objective`."""
        selection = self.split(split).select(self.config, draw)
        if not selection.split.references:
            raise InputError(f"{self.name}: has no reference answers that a gradient could follow; give it an answer")
        counts = selection.counts
        sign = -1 if self.quantity == "entropy" else 1
        shares = (sign / (counts * len(counts))).astype(np.float32)
        return Reference(selection.references, shares, self.is_smooth, self.quantity)
