"""kind: entropy. How sure a model is of its predictions, on texts without labels.

What AdaMerging (Yang et al. 2024, arXiv:2310.02575) minimises: where labels are missing, how sure a merge of
fine-tuned models is goes with how right it is, as long as the merge is near them.
"""

from typing import ClassVar

import numpy as np

from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Block, Quantity, Runner, Scored
from jaxmerge.objectives.split import Preparer, Split


class Entropy(PreparedObjective):
    """An example's score is minus the mean entropy, in nats, of the predictions of every token after the first."""

    discrete = False
    is_smooth = True
    quantity: ClassVar[Quantity] = "entropy"

    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        texts = preparer.fill_all("text", examples)
        sequences = preparer.texts(examples, texts)
        return Split(examples, texts, references=[[tokens] for tokens in sequences])

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        selection = self.split(split).select(self.config, draw, block)
        means = np.asarray(runner.entropy(selection.references), np.float64) / selection.counts
        ties = np.zeros(runner.size, np.float32)
        return Scored(-means.astype(np.float32), ties, selection.texts, places=selection.places)
