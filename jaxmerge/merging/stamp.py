"""What an unfinished merge is made of, so that another does not go on with it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jaxmerge
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, parse_size
from jaxmerge.recipe.plan import Plan

FILES = ("*.safetensors", "*.bin", "*.json")


def stamp_of(plans: Sequence[Plan], max_shard_size: int | str = DEFAULT_SHARD_SIZE) -> str:
    """A digest of recipes, seeds, output tensors and of names, sizes and times of the models' files."""
    content = [
        {
            "recipe": plan.document.data,
            "seed": plan.seed,
            "tensors": [(tensor.name, str(tensor.dtype), tensor.shape) for tensor in plan.tensors],
            "models": [list(_files(plan, i)) for i in range(len(plan.models))],
        }
        for plan in plans
    ]
    text = json.dumps([jaxmerge.__version__, parse_size(max_shard_size), content], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(plan: Plan, model: int) -> Iterator[tuple[str, int, int]]:
    location = plan.models[model].location
    for folder in (location.folder, location.adapter):
        for file in _matching(folder):
            facts = file.stat()
            yield str(file.resolve()), facts.st_size, facts.st_mtime_ns


def _matching(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    return sorted(file for pattern in FILES for file in folder.glob(pattern) if file.is_file())
