"""kind: likelihood. How probable texts are, or answers after their prompts."""

import numpy as np

from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Block, Runner, Scored
from jaxmerge.objectives.split import Preparer, Split


class Likelihood(PreparedObjective):
    """An example's score is the mean log-probability, in nats, of its tokens that count. So the model's score
    is minus the mean over examples of the mean negative log-likelihood."""

    discrete = False
    is_smooth = True

    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        if self.config.text is not None:
            texts = preparer.fill_all("text", examples)
            sequences = preparer.texts(examples, texts)
            return Split(examples, texts, references=[[tokens] for tokens in sequences])
        texts, answers = preparer.prompt_texts(examples), preparer.fill_all("answer", examples)
        sequences = preparer.answers(examples, list(zip(texts, answers, strict=True)))
        return Split(examples, texts, answers, [[tokens] for tokens in sequences])

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        selection = self.split(split).select(self.config, draw, block)
        means = selection.log_likelihoods(runner) / selection.counts
        ties = np.zeros(runner.size, np.float32)
        return Scored(means.astype(np.float32), ties, selection.texts, places=selection.places)
