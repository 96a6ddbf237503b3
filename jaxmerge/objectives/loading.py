"""From the `objectives:` of a config to objectives that are ready to score."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxmerge.errors import InputError, unknown
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.choice import Choice
from jaxmerge.objectives.entropy import Entropy
from jaxmerge.objectives.generate import Generate
from jaxmerge.objectives.interface import Objective
from jaxmerge.objectives.likelihood import Likelihood
from jaxmerge.objectives.python import Python
from jaxmerge.objectives.schema import NOT_YET, ObjectiveConfig
from jaxmerge.objectives.split import Split
from jaxmerge.plugins import load_function
from jaxmerge.tokens.tokenizer import Tokenizer

# A kind of the user's own is such a function too: `module:function`, or an entry point of
# `jaxmerge.objectives`.
Build = Callable[[ObjectiveConfig, Tokenizer, Path], Objective]

KINDS: dict[str, Build] = {
    "likelihood": Likelihood,
    "entropy": Entropy,
    "choice": Choice,
    "generate": Generate,
    "python": Python,
}


def build(
    configs: Sequence[ObjectiveConfig], tokenizer: Tokenizer, folder: Path, vocab_size: int | None = None
) -> list[Objective]:
    """Make the objectives: all data is read, checked and tokenised.

    folder: the config's; data paths are relative to it and functions are looked for in it.
    vocab_size: the model's; a tokenizer that gives larger ids does not belong to it.
    Raises InputError naming objective, key, file and line. Warns where test or validation data repeats search
    data."""
    objectives = [_kind(config, folder)(config, tokenizer, folder) for config in configs]
    for objective in objectives:
        if isinstance(objective, PreparedObjective):
            _warn_of_overlap(objective)
            if vocab_size is not None:
                _check_ids(objective, vocab_size)
    return objectives


def _kind(config: ObjectiveConfig, folder: Path) -> Build:
    if config.kind in KINDS:
        return KINDS[config.kind]
    try:
        return load_function(config.kind, folder, "jaxmerge.objectives")
    except InputError as error:
        if ":" in config.kind:
            raise InputError(f"{config.name}.kind: {error}") from error
        raise unknown("kind", config.kind, [*KINDS, *NOT_YET], config.name) from error


def _warn_of_overlap(objective: PreparedObjective) -> None:
    """By the content of prompts and answers, which is what a search could have learnt from."""
    present = [(name, _contents(objective.split(name))) for name in objective.splits()]
    for i, (seen, contents) in enumerate(present):
        for unseen, others in present[i + 1 :]:
            if shared := len(contents & others):
                warnings.warn(
                    f"{objective.name}: {shared} of {len(others)} examples of the {unseen} data are also in "
                    f"the {seen} data; the {unseen} score will look better than it is",
                    stacklevel=3,
                )


def _contents(split: Split) -> set[bytes]:
    answers = split.answers or [""] * len(split)
    pairs = zip(split.texts, answers, strict=True)
    return {hashlib.sha256(f"{text.strip()}\0{answer.strip()}".encode()).digest() for text, answer in pairs}


def _check_ids(objective: PreparedObjective, vocab_size: int) -> None:
    for name in objective.splits():
        split = objective.split(name)
        for sequences in (split.references, split.prompts):
            for example, options in zip(split.examples, sequences, strict=False):
                largest = max(max(tokens.ids) for tokens in options)
                if largest >= vocab_size:
                    raise InputError(
                        f"{objective.name}: {example.where}: token {largest} of the tokenizer in "
                        f"{objective.tokenizer.folder} is outside the model's vocabulary of {vocab_size}; "
                        f"set tokenizer to the model's own"
                    )
