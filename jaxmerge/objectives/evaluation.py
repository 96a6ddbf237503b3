"""One model scored on objectives: `jaxmerge.evaluate` and `jaxmerge evaluate`."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxmerge.converters.model import layout_of, load_model, open_model
from jaxmerge.converters.reference import resolve
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Objective, Scored
from jaxmerge.objectives.intervals import interval
from jaxmerge.objectives.loading import build
from jaxmerge.objectives.schema import ObjectiveConfig, Objectives, read_objectives
from jaxmerge.objectives.single import SingleModel
from jaxmerge.objectives.weighted import score_all
from jaxmerge.runtime.dtype import DTYPES, cache_dtype, compute_dtype
from jaxmerge.strict import Strict
from jaxmerge.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jaxmerge.models.module import CausalLM


class Runtime(Strict):
    """The part of a config's `runtime:` that matters here."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cache: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class EvaluateConfig(Objectives):
    """The keys of an evolve config that evaluating a model needs."""

    runtime: Runtime = Runtime()


@dataclass(frozen=True)
class Result:
    """One objective: its score, the 95% interval over examples, their number n, and each example."""

    score: float
    interval: tuple[float, float]
    n: int
    scored: Scored


@dataclass(frozen=True)
class Evaluation:
    """score: the weighted mean over objectives; NaN where one is not finite. objectives: by name."""

    score: float
    objectives: dict[str, Result]

    def summary(self) -> dict[str, Any]:
        """For JSON: `{"score": x, "objectives": {name: {"score", "interval", "n"}}}`; null where not finite."""
        return {
            "score": _finite(self.score),
            "objectives": {
                name: {
                    "score": _finite(result.score),
                    "interval": [_finite(bound) for bound in result.interval],
                    "n": result.n,
                }
                for name, result in self.objectives.items()
            },
        }

    def examples(self) -> list[dict[str, Any]]:
        """Objective, prompt, output (null where nothing is generated or chosen) and score of each example."""
        rows = []
        for name, result in self.objectives.items():
            scored = result.scored
            prompts: Sequence[str | None] = scored.prompts or [None] * result.n
            outputs: Sequence[str | None] = scored.outputs[0] if scored.outputs else [None] * result.n
            for prompt, output, score in zip(prompts, outputs, scored.examples[0], strict=True):
                rows.append({"objective": name, "prompt": prompt, "output": output, "score": _finite(float(score))})
        return rows

    def write_examples(self, file: Path) -> None:
        """`examples()` as JSONL; the file appears when it is complete."""
        require_writable(file)
        part = file.with_name(file.name + ".tmp")
        try:
            with part.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.examples())
            part.replace(file)
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror}); give another file") from None
        finally:
            part.unlink(missing_ok=True)


def require_writable(file: Path) -> None:
    """Raises InputError where the file cannot be written, without touching it."""
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        why = "is a folder" if file.is_dir() else f"there is no folder {file.parent} that can be written"
        raise InputError(f"{file}: {why}; give another file")


def evaluate(
    model: "str | Path | CausalLM",
    objectives: "str | Path | Sequence[ObjectiveConfig | dict[str, Any]]",
    split: str = "test",
    *,
    dtype: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a model on a config's objectives.

    model: an HF or Flax folder, a hub id, or a loaded model; its own tokenizer is used.
    objectives: a YAML file with the key `objectives` (an evolve config is one), to whose folder data paths are
    relative; or a list of what stands under that key, relative to the working directory.
    dtype: float32, bfloat16, float16 or auto; None takes the config's `runtime.dtype` for a folder, and for a loaded
    model its own.
    progress: called with the number of sequences that were run, and how many there are.
    Raises InputError for wrong configs and data before the weights are read, CheckpointError for the model's files.
    """
    config, folder = _read(objectives)
    if dtype is not None and dtype not in (*DTYPES, "auto"):
        raise InputError(f"dtype: '{dtype}' is none of auto, {', '.join(DTYPES)}")
    if isinstance(model, str | Path):
        place = resolve(str(model), relative_to=[Path()])
        decoder, _ = layout_of(open_model(place))
        ready = _ready(config, place.folder, folder, decoder.vocab_size, split)
        chosen = compute_dtype(dtype or config.runtime.dtype)
        params = load_model(place, chosen).params
    else:
        if model.folder is None:
            raise InputError("the model was not loaded from a folder and has no tokenizer; give its folder")
        decoder = model.config
        ready = _ready(config, model.folder, folder, decoder.vocab_size, split)
        chosen = compute_dtype(dtype) if dtype else np.dtype(model.dtype)
        params = {path: array.astype(chosen) for path, array in model.weights.params.items()}
    prepared = [objective.split(split) for objective in ready if isinstance(objective, PreparedObjective)]
    total = sum(part.sequences for part in prepared)
    cache = cache_dtype(config.runtime.cache)
    runner = SingleModel(params, decoder, chosen, lambda done: progress(done, total), cache=cache)
    return _score(ready, runner, split)


def _read(objectives: Any) -> tuple[EvaluateConfig, Path]:
    if not isinstance(objectives, str | Path):
        plain = [o.model_dump() if isinstance(o, ObjectiveConfig) else o for o in objectives]
        return EvaluateConfig(objectives=read_objectives(plain)), Path()
    document = Document.read(Path(objectives))
    data = document.data if isinstance(document.data, dict) else {}
    if "objectives" not in data:
        raise InputError(f"{objectives}: the key 'objectives' is missing; an evolve config has it")
    wanted: dict[str, Any] = {"objectives": data["objectives"]}
    runtime = data.get("runtime")
    if isinstance(runtime, dict):
        wanted["runtime"] = {key: value for key, value in runtime.items() if key in Runtime.model_fields}
    config = Document(document.file, wanted, document.lines).validate(EvaluateConfig)
    return config, document.home


def _ready(config: EvaluateConfig, model: Path, folder: Path, vocab_size: int, split: str) -> list[Objective]:
    objectives = build(config.objectives, Tokenizer.open(model), folder, vocab_size)
    for objective in objectives:
        if split not in objective.splits():
            there = ", ".join(objective.splits()) or "none"
            raise InputError(f"{objective.name}: no data for split '{split}'; there are: {there}")
    return objectives


def _score(objectives: list[Objective], runner: SingleModel, split: str) -> Evaluation:
    scores = score_all(objectives, runner, split)
    results = {}
    for objective in objectives:
        scored = scores.scored[objective.name]
        if scored.errors and scored.errors[0]:
            raise InputError(f"{objective.name}.metric: {scored.errors[0]}")
        examples = scored.examples[0]
        score = float(scores.by_objective[objective.name][0])
        results[objective.name] = Result(score, interval(examples, objective.discrete), len(examples), scored)
    return Evaluation(float(scores.scores[0]), results)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
