"""kind: generate. Greedy outputs compared with their answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Block, Runner, Scored
from jaxmerge.objectives.language import check_language, is_in_language
from jaxmerge.objectives.metrics import MATCHES, brevity, why_unanswerable
from jaxmerge.objectives.rouge import check_rouge, rouge_l
from jaxmerge.objectives.schema import METRICS, ObjectiveConfig
from jaxmerge.objectives.split import Preparer, Selection, Split
from jaxmerge.plugins import load_function
from jaxmerge.tokens.tokenizer import Tokenizer


class Generate(PreparedObjective):
    """An example is right where the output's text passes the metric and, where one is asked for, the language
    gate.

    Decoding is greedy. A text ends at any EOS id, at `max_new_tokens`, or before the first stop string. A
    metric of the user's own is `(output, example) -> float`, the example being the line's fields. `brevity` scores
    1 - tokens / max_new_tokens, whatever is said.
    Tie-breaker: the mean log-probability of the reference answer's tokens given the prompt, where there is an
    answer."""

    def __init__(self, config: ObjectiveConfig, tokenizer: Tokenizer, folder: Path) -> None:
        if config.language is not None:
            check_language(config.language, f"{config.name}.language")
        assert config.metric is not None
        if config.metric == "rouge_l":
            check_rouge(f"{config.name}.metric")
        self.discrete = config.metric in MATCHES  # type: ignore[misc]
        self._function: Callable[..., Any] | None = None
        if config.metric not in METRICS:
            self._function = _load_metric(config, folder)
        self._stop_ids = _stop_ids(config, tokenizer)
        super().__init__(config, tokenizer, folder)

    def prepare(self, preparer: Preparer, examples: list[Example]) -> Split:
        texts = preparer.prompt_texts(examples)
        prompts = [[tokens] for tokens in preparer.prompts(examples, texts)]
        if self.config.answer is None:
            return Split(examples, texts, prompts=prompts)
        answers = preparer.fill_all("answer", examples)
        for example, answer in zip(examples, answers, strict=True):
            if (reason := why_unanswerable(str(self.config.metric), answer)) is not None:
                raise InputError(f"{self.name}.answer: {example.where}: {reason}")
        sequences = preparer.answers(examples, list(zip(texts, answers, strict=True)))
        return Split(examples, texts, answers, [[tokens] for tokens in sequences], prompts)

    def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
        selection = self.split(split).select(self.config, draw, block)
        ids = np.asarray(runner.generate(selection.prompts, self.config.max_new_tokens, self._stop_ids))
        outputs = [[self._text(row) for row in model] for model in ids]
        ties = np.zeros(runner.size, np.float32)
        if self.config.answer is not None:
            means = selection.log_likelihoods(runner) / selection.counts
            ties = means.mean(axis=1).astype(np.float32)
        scores = np.full((runner.size, len(selection.places)), np.nan, np.float32)
        errors: list[str | None] = [None] * runner.size
        for model, texts in enumerate(outputs):
            try:
                judged = self._brief(ids[model]) if self.config.metric == "brevity" else self.compare(texts, selection)
                scores[model] = self._gate(texts) * judged
            except MetricError as error:
                errors[model] = str(error)
        return Scored(scores, ties, selection.texts, outputs, errors, selection.places)

    def compare(self, outputs: list[str], selection: Selection) -> np.ndarray:
        """The metric of one model's outputs: `[N]`. Raises MetricError where the user's function fails."""
        if self.config.metric == "rouge_l":
            pairs = zip(outputs, selection.answers, strict=True)
            return np.array([rouge_l(o, a, self.config.language) for o, a in pairs], np.float32)
        if self._function is None:
            match = MATCHES[str(self.config.metric)]
            return np.array(
                [match(o, a) for o, a in zip(outputs, selection.answers, strict=True)], np.float32
            )
        return np.array(
            [self._call(o, e) for o, e in zip(outputs, selection.examples, strict=True)], np.float32
        )

    def _call(self, output: str, example: Example) -> float:
        assert self._function is not None
        try:
            return float(self._function(output, example.fields))
        except Exception as error:
            name = type(error).__name__
            raise MetricError(f"{self.config.metric} raised {name} on {example.where}: {error}") from error

    def _text(self, ids: np.ndarray) -> str:
        text = self.tokenizer.decode(ids[ids >= 0].tolist())
        ends = [place for stop in self.config.stop if (place := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    def _brief(self, ids: np.ndarray) -> np.ndarray:
        """The brevity of outputs `[N, max_new_tokens]`: `[N]`."""
        return np.array([brevity(self._length(row), ids.shape[1]) for row in ids], np.float32)

    def _length(self, ids: np.ndarray) -> int:
        """Tokens before the end; the one in which a stop text is complete is beyond it."""
        tokens = ids[ids >= 0].tolist()
        if any(stop in self.tokenizer.decode(tokens) for stop in self.config.stop):
            decoded = (self.tokenizer.decode(tokens[:count]) for count in range(len(tokens) + 1))
            return max(0, next(i for i, text in enumerate(decoded) if any(s in text for s in self.config.stop)) - 1)
        return len(tokens)

    def _gate(self, outputs: list[str]) -> np.ndarray:
        language = self.config.language
        if language is None:
            return np.ones(len(outputs), np.float32)
        return np.array([is_in_language(output, language) for output in outputs], np.float32)


def _stop_ids(config: ObjectiveConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Every EOS id, and the stop strings' own: a special token leaves no text to be found, and a token that begins
    with a stop string ends the text before `max_new_tokens` does."""
    ids = set(tokenizer.eos_ids)
    for stop in config.stop:
        own = tokenizer.token_id(stop)
        if own is not None and tokenizer.decode([own]) == "":
            ids.add(own)
        ids.update(tokenizer.beginning_with(stop))
    return tuple(sorted(ids))


class MetricError(Exception):
    """A user's metric failed on one model's outputs; that model fails, the others do not."""


def _load_metric(config: ObjectiveConfig, folder: Path) -> Callable[..., Any]:
    try:
        return load_function(str(config.metric), folder, "jaxmerge.objectives")
    except InputError as error:
        known = f" (built in: {', '.join(METRICS)})" if config.kind == "generate" else ""
        raise InputError(f"{config.name}.metric: {error}{known}") from error
