"""What a fine-tune changed, as a LoRA in PEFT's format that gives it again on the base."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import jaxmerge
from jaxmerge.converters.adapted import embedding_of, open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.fit import BUFFERS, HEAD
from jaxmerge.converters.lora import INPUTS_FIRST, keeps_inputs_first
from jaxmerge.converters.lora_writer import NewLora
from jaxmerge.converters.output_folder import output_folder, require_absent, require_apart
from jaxmerge.converters.reference import hub_name, resolve, split
from jaxmerge.errors import CheckpointError, InputError, unknown
from jaxmerge.merging.card import CARD, Parent, front_matter, local_names, parents_section
from jaxmerge.merging.decomposition import decompose
from jaxmerge.recipe.dtypes import is_float
from jaxmerge.recipe.layers import find_layers, in_model_order, is_embedding
from jaxmerge.runtime.dtype import DTYPES

DEFAULT_RANK = 128


@dataclass(frozen=True)
class Extracted:
    """rank: of the product. error: norm of what it misses by the norm of the change."""

    rank: int
    error: float


@dataclass
class Extraction:
    """modules: those that have a product. whole: tensors that are stored as they are. left_out: tensors that differ and
    are not in the LoRA, with the norm of the change by that of all changes. error: of all tensors together."""

    modules: dict[str, Extracted] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    left_out: dict[str, float] = field(default_factory=dict)
    error: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        modules = {name: {"rank": found.rank, "error": found.error} for name, found in self.modules.items()}
        return {"modules": modules, "whole": self.whole, "left_out": self.left_out, "error": self.error}


def extract_lora(
    model: str,
    out: str | Path,
    *,
    base: str,
    rank: int | None = None,
    energy: float | None = None,
    embeddings: bool = False,
    save_modules: Sequence[str] = (),
    dtype: str = "float32",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Write the difference of `model` to `base` as a LoRA, and tell how near it comes.

    Every linear layer's change is cut to its largest singular values (float32, on the device). rank: at most so many of
    each; 128, where neither is given. energy: of each as many as hold this share of its squares, in (0, 1].
    embeddings: also those of embeddings. save_modules: modules, by the end of their names, that are stored whole.
    dtype: of the products. The products are held in host memory until all are there.
    Raises InputError for wrong arguments and a base that has a LoRA itself, CheckpointError for models that do not fit
    each other, before a weight is read; InputError where no linear layer differs.
    """
    if rank is not None and rank < 1:
        raise InputError(f"rank is {rank}; it must be at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise InputError(f"energy is {energy:g}; it must be in (0, 1], the share of the change that is kept")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    target = DTYPES[dtype]
    require_absent(Path(out), force=force)
    if split(base, [Path()])[1] is not None:
        raise InputError(
            f"{base}: has a LoRA itself, and neither PEFT nor jaxmerge loads one LoRA on another; write it as a model "
            "of its own (`jaxmerge merge`, merge_method: passthrough) and name that folder as the base"
        )
    tuned, origin = (open_checkpoint(resolve(ref, relative_to=[Path()])) for ref in (model, base))
    require_apart(Path(out), (tuned.location, origin.location))
    if tuned.location.resolve() == origin.location.resolve():
        raise InputError(f"{model}: is the base itself; name the model that was tuned from it")
    names = _names(tuned, origin)
    saved = _saved(names, save_modules)
    lora = _new_lora(origin, base)
    found, cut = Extraction(), DEFAULT_RANK if rank is None and energy is None else rank
    missed = changed = 0.0
    for done, name in enumerate(names, 1):
        module = name.rpartition(".")[0]
        own, delta = _difference(tuned, origin, name)
        square = _square(delta)
        changed += square
        turned = is_embedding(name) or keeps_inputs_first(origin.config.get("model_type"), module)
        pair = None
        if module in saved:
            lora.whole[name] = own
            found.whole.append(name)
            square = 0.0
        elif square and _is_linear(name, delta.shape) and (embeddings or not is_embedding(name)):
            pair = decompose(name, delta.T if turned else delta, cut, energy)
        if pair is not None:
            a, b = (array.astype(target) for array in pair)
            lora.products[module] = a, b
            if is_embedding(name):
                lora.embeddings.add(module)
            product = b.astype(np.float32) @ a.astype(np.float32)
            left = _square(delta - (product.T if turned else product))
            found.modules[module] = Extracted(len(a), math.sqrt(left / square))
            missed += left
        elif square:
            found.left_out[name] = math.sqrt(square)
            missed += square
        progress(done, len(names))
    if not found.modules and not found.whole:
        raise InputError(f"{model}: no linear layer differs from {base}; there is nothing to extract")
    total = math.sqrt(changed) or 1.0
    found.left_out = {name: norm / total for name, norm in found.left_out.items()}
    found.error = math.sqrt(missed) / total
    linears = [name.rpartition(".")[0] for name in names if _is_linear(name, origin.info(name).shape)]
    with output_folder(Path(out), force=force) as part:
        lora.write(part, linears, target)
        (part / CARD).write_text(_card(model, base, tuned, origin, found), encoding="utf-8")
    return found


def _names(tuned: Checkpoint, origin: Checkpoint) -> list[str]:
    """All tensors of both in the model's order. Raises CheckpointError where they do not fit each other."""
    tied = _tied(origin)
    if tied != _tied(tuned):
        one, two = (origin, tuned) if tied else (tuned, origin)
        raise CheckpointError(f"{one.folder}: ties embedding and head, {two.folder} does not; a LoRA cannot say that")
    own, theirs = (
        [name for name in model.tensors if not BUFFERS.search(name) and not (tied and name == HEAD)]
        for model in (tuned, origin)
    )
    for name in dict.fromkeys((*theirs, *own)):
        a, b = tuned.info(name), origin.info(name)
        if a.shape != b.shape:
            remedy = (
                "bring both to one vocabulary first" if is_embedding(name) or name == HEAD else "they must be alike"
            )
            raise CheckpointError(
                f"{a.file}: tensor '{name}' is {list(a.shape)} but {list(b.shape)} in {origin.folder}; {remedy}"
            )
        for info in (a, b):
            if not is_float(info.dtype):
                raise CheckpointError(f"{info.file}: tensor '{name}' is {info.dtype}; save it in BF16, F16 or F32")
    return in_model_order(theirs, find_layers(origin))


def _saved(names: Sequence[str], wanted: Sequence[str]) -> set[str]:
    modules = {name.rpartition(".")[0] for name in names}
    saved: set[str] = set()
    for end in wanted:
        matching = {module for module in modules if module == end or module.endswith(f".{end}")}
        if not matching:
            raise unknown("module", end, {module.rpartition(".")[2] for module in modules}, "--save-modules")
        saved |= matching
    return saved


def _new_lora(origin: Checkpoint, base: str) -> NewLora:
    embedding = embedding_of(origin) if _tied(origin) else None
    path, revision = hub_name(base, [Path()])
    turned = origin.config.get("model_type") in INPUTS_FIRST
    return NewLora(path, revision, turned, embedding and embedding.removesuffix(".weight"))


def _tied(checkpoint: Checkpoint) -> bool:
    return HEAD not in checkpoint.tensors or checkpoint.config.get("tie_word_embeddings") is True


def _is_linear(name: str, shape: Sequence[int]) -> bool:
    return name.endswith(".weight") and len(shape) == 2


def _difference(tuned: Checkpoint, origin: Checkpoint, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The tuned tensor, and what it has over the base's in float32."""
    arrays = []
    for checkpoint in (tuned, origin):
        arrays.append(checkpoint.read(name))
        require_finite(f"{checkpoint.info(name).file}: tensor '{name}'", arrays[-1])
    own, theirs = arrays
    return own, own.astype(np.float32) - theirs.astype(np.float32)


def _square(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _card(model: str, base: str, tuned: Checkpoint, origin: Checkpoint, found: Extraction) -> str:
    sources, names = ((base, origin), (model, tuned)), local_names((base, model))
    parents = [Parent.of("", ref, checkpoint.location, names) for ref, checkpoint in sources]
    matter = front_matter(parents, library="peft", relation="adapter", about=parents[:1], tags=("lora",))
    rank = max((part.rank for part in found.modules.values()), default=0)
    text = (
        f"The difference of `{parents[1].model}` to `{parents[0].model}` as a LoRA of rank {rank} at most. It misses "
        f"{found.error:.2%} of the difference, by its norm. Made by jaxmerge {jaxmerge.__version__}."
    )
    return "\n\n".join((matter, "# An extracted LoRA", text, parents_section(parents))) + "\n"
