"""A data file made ready to run: texts, tokens, and the buckets they lie in."""

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.objectives.batching import Sequences, Tokens, collate, deal, draw, length_groups
from jaxmerge.objectives.data import Example
from jaxmerge.objectives.interface import Batch, Block, Runner
from jaxmerge.objectives.schema import ObjectiveConfig
from jaxmerge.tokens.prompt import PromptFormat, encode_answers, encode_prompts, fill
from jaxmerge.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Split:
    """The examples of a split.

    texts: what each starts from. answers: the reference answers as text, or None.
    references: sequences with tokens that count. prompts: sequences to be continued. Either may be empty.
    """

    examples: list[Example]
    texts: list[str]
    answers: list[str] | None = None
    references: Sequences = ()
    prompts: Sequences = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def sequences(self) -> int:
        """How many there are to run."""
        return sum(len(options) for options in self.references) + len(self.prompts)

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """By the longest sequence of each example; the same for references and prompts, so that one draw fits
        both."""
        sequences = self.references or self.prompts
        return length_groups(np.array([max(len(tokens.ids) for tokens in options) for options in sequences]))

    def tokens(self, generated: int) -> np.ndarray:
        """Of all sequences of each example, with `generated` more for a prompt: int64 `[N]`."""
        counts = np.full(len(self), generated if self.prompts else 0, np.int64)
        for sequences in (self.references, self.prompts):
            for i, options in enumerate(sequences):
                counts[i] += sum(len(tokens.ids) for tokens in options)
        return counts

    def select(self, config: ObjectiveConfig, seed: int | None, block: Block | None = None) -> "Selection":
        """All examples, or where a seed is given the config's `sample`; of these a block, where one is given."""
        sampled = seed is not None and config.sample is not None and config.sample < len(self)
        if not sampled and block in self._kept:
            return self._kept[block]
        places = np.arange(len(self))
        if sampled:
            assert seed is not None and config.sample is not None
            places = draw(self.groups, config.sample, (seed, zlib.crc32(config.name.encode())))
        if block is None:
            selection = Selection(self, places)
        else:
            # Objectives over the same examples get the same blocks, and share a runner's answers.
            dealt, room = deal(self.groups, places, block.count, block.seed)
            selection = Selection(self, dealt[block.number], room)
        if not sampled:
            self._kept[block] = selection
        return selection

    @cached_property
    def _kept(self) -> dict[Block | None, "Selection"]:
        """A draw is used in one generation; what is chosen without one, in all."""
        return {}


@dataclass(frozen=True)
class Selection:
    """Some examples of a split, by place, ascending.

    room: for how many examples each group's bucket has rows; None: for those that are chosen.
    """

    split: Split
    places: np.ndarray
    room: tuple[int, ...] | None = None

    @cached_property
    def references(self) -> Batch:
        return collate(self.split.references, self.split.groups, self.places, left=False, room=self.room)

    @cached_property
    def prompts(self) -> Batch:
        return collate(self.split.prompts, self.split.groups, self.places, left=True, room=self.room)

    @property
    def texts(self) -> list[str]:
        return [self.split.texts[i] for i in self.places]

    @property
    def examples(self) -> list[Example]:
        return [self.split.examples[i] for i in self.places]

    @property
    def answers(self) -> list[str]:
        return [self.split.answers[i] for i in self.places] if self.split.answers else [""] * len(self.places)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many tokens count in each reference: int64 `[sequences]`."""
        every = [tokens for i in self.places for tokens in self.split.references[i]]
        return np.array([len(tokens.ids) - tokens.counted_from for tokens in every], np.int64)

    def log_likelihoods(self, runner: Runner) -> np.ndarray:
        """Sum over the counted tokens of each reference: float64 `[P, sequences]`."""
        return np.asarray(runner.likelihood(self.references), np.float64)


@dataclass(frozen=True)
class Preparer:
    """Turns examples into sequences by an objective's templates. Every mistake names objective, key, file and
    line."""

    config: ObjectiveConfig
    tokenizer: Tokenizer
    shots: list[Example] = field(default_factory=list)

    def fill(self, key: str, example: Example) -> str:
        """The template under a key, filled."""
        return fill(getattr(self.config, key), example.fields, f"{self.config.name}.{key}: {example.where}")

    def fill_all(self, key: str, examples: list[Example]) -> list[str]:
        return [self.fill(key, example) for example in examples]

    @cached_property
    def _format(self) -> PromptFormat:
        shots = [(self.fill("prompt", shot), self.fill("answer", shot)) for shot in self.shots]
        return PromptFormat(self.config.chat_template, self.config.system, shots)

    def prompt_texts(self, examples: list[Example]) -> list[str]:
        """Prompts with their solved examples, as turns of a conversation where the config says so."""
        return [self._format.text(self.tokenizer, prompt) for prompt in self.fill_all("prompt", examples)]

    @property
    def special(self) -> bool:
        """A chat template brings its own special tokens."""
        return not self.config.chat_template

    def texts(self, examples: list[Example], texts: list[str]) -> list[Tokens]:
        """Whole texts: every token after the first counts."""
        encoded = self.tokenizer.encode_all(texts)
        return [self._fit(Tokens(ids, 1), example) for ids, example in zip(encoded, examples, strict=True)]

    def answers(self, examples: list[Example], pairs: list[tuple[str, str]]) -> list[Tokens]:
        """Prompt and answer: the answer's tokens count."""
        encoded = encode_answers(self.tokenizer, pairs, special=self.special)
        return [self._fit(Tokens(*pair), example) for pair, example in zip(encoded, examples, strict=True)]

    def prompts(self, examples: list[Example], texts: list[str]) -> list[Tokens]:
        """Prompts, of which nothing counts."""
        encoded = encode_prompts(self.tokenizer, texts, special=self.special)
        return [
            self._fit(Tokens(ids, len(ids)), e, prompt=True) for ids, e in zip(encoded, examples, strict=True)
        ]

    def _fit(self, tokens: Tokens, example: Example, *, prompt: bool = False) -> Tokens:
        where, limit = f"{self.config.name}: {example.where}", self.config.max_length
        ids, counted_from = tokens.ids, tokens.counted_from
        if not ids:
            raise InputError(f"{where}: no tokens; the text is empty")
        if not prompt and counted_from >= len(ids):
            raise InputError(f"{where}: no token counts; the text or answer must have tokens of its own")
        if len(ids) <= limit:
            return tokens
        if self.config.truncate is None:
            raise InputError(
                f"{where}: {len(ids)} tokens, more than max_length {limit}; raise it or set truncate: left"
            )
        counted_from = max(counted_from - (len(ids) - limit), 0 if prompt else 1)
        return Tokens(ids[-limit:], counted_from)
