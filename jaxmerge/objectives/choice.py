"""kind: choice. Which of several options a model finds most likely after the prompt."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Block, Reference, Runner, Scored
from jaxmerge.objectives.split import Preparer, Split
from jaxmerge.tokens.prompt import fill, sole_field


@dataclass(frozen=True)
class ChoiceSplit(Split):
    """options: the texts to choose from. rights: the place of the right one."""

    options: list[list[str]] = field(default_factory=list)
    rights: list[int] = field(default_factory=list)


class Choice(PreparedObjective):
    """An example is right where the right option has the highest log-likelihood; of equal ones the first is
    taken.

    normalize: none compares sums, tokens divides each by its number of tokens, characters by the option's
    length in characters (the `acc_norm` of EleutherAI's lm-evaluation-harness). The answer is an option's
    text, or its number counted from 0. Tie-breaker: the mean log-probability of the right option's tokens.
    """

    discrete = True

    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        texts = preparer.prompt_texts(examples)
        options = [self._options(example) for example in examples]
        rights = [self._right(example, o) for example, o in zip(examples, options, strict=True)]
        pairs = [(text, option) for text, some in zip(texts, options, strict=True) for option in some]
        owners = [example for example, some in zip(examples, options, strict=True) for _ in some]
        flat = iter(preparer.answers(owners, pairs))
        references = [[next(flat) for _ in some] for some in options]
        answers = [some[right] for some, right in zip(options, rights, strict=True)]
        return ChoiceSplit(examples, texts, answers, references, options=options, rights=rights)

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        whole = self.split(split)
        assert isinstance(whole, ChoiceSplit)
        selection = whole.select(self.config, draw, block)
        sums, counts = selection.log_likelihoods(runner), selection.counts
        options = [whole.options[i] for i in selection.places]
        rights = np.array([whole.rights[i] for i in selection.places])
        lengths = np.array([max(len(option), 1) for some in options for option in some])
        values = sums / {"none": np.ones(1), "tokens": counts, "characters": lengths}[self.config.normalize]
        starts = np.cumsum([0] + [len(some) for some in options])
        spans = list(pairwise(starts))
        chosen = np.stack([values[:, a:b].argmax(axis=1) for a, b in spans], axis=1)
        finite = np.stack([np.isfinite(values[:, a:b]).all(axis=1) for a, b in spans], axis=1)
        right = np.where(finite, chosen == rights, np.nan)
        places = starts[:-1] + rights
        ties = (sums / counts)[:, places].mean(axis=1)
        outputs = [[some[i] for some, i in zip(options, row, strict=True)] for row in chosen]
        scores, ties = right.astype(np.float32), ties.astype(np.float32)
        return Scored(scores, ties, selection.texts, outputs, places=selection.places)

    def reference(self, split: str, draw: int | None = None) -> Reference:
        """Of the right options alone."""
        whole = self.split(split)
        assert isinstance(whole, ChoiceSplit)
        selection = whole.select(self.config, draw)
        lengths = [len(whole.options[i]) for i in selection.places]
        right = np.cumsum([0, *lengths[:-1]]) + [whole.rights[i] for i in selection.places]
        shares = np.zeros(len(selection.counts), np.float32)
        shares[right] = 1 / (selection.counts[right] * len(right))
        return Reference(selection.references, shares)

    def _options(self, example: Example) -> list[str]:
        where = f"{self.config.name}.choices: {example.where}"
        given = self.config.choices
        assert given is not None
        if isinstance(given, list):
            options = [fill(option, example.fields, where) for option in given]
        else:
            value = sole_field(given, example.fields)
            if not isinstance(value, list):
                fill(given, example.fields, where)  # names a field that the data lacks
                raise InputError(f"{where}: {given} must hold a list of options")
            options = [
                option if isinstance(option, str) else fill("{o}", {"o": option}, where) for option in value
            ]
        if len(options) < 2:
            raise InputError(f"{where}: {len(options)} option; a choice needs at least 2")
        return options

    def _right(self, example: Example, options: list[str]) -> int:
        """Where the options are numbers, the answer is one of them; elsewhere a number counts the options."""
        where = f"{self.config.name}.answer: {example.where}"
        assert self.config.answer is not None
        text = fill(self.config.answer, example.fields, where)
        value = sole_field(self.config.answer, example.fields)
        stripped = [option.strip() for option in options]
        if isinstance(value, int) and not isinstance(value, bool) and not self._are_numbers(example):
            if 0 <= value < len(options):
                return value
        elif text in options:
            return options.index(text)
        elif stripped.count(text.strip()) == 1:
            return stripped.index(text.strip())
        elif isinstance(value, str) and value.strip().isdecimal() and int(value) < len(options):
            return int(value)
        raise InputError(
            f"{where}: {text!r} is none of the {len(options)} options and no number of one, counted from 0"
        )

    def _are_numbers(self, example: Example) -> bool:
        choices = self.config.choices
        value = sole_field(choices, example.fields) if isinstance(choices, str) else None
        return isinstance(value, list) and all(isinstance(option, int | float) for option in value)
