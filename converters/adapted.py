"""A checkpoint with a LoRA on it, which reads as the checkpoint of the merged model would.

Every tensor is formed when it is read: W + scale * B @ A in float32, rounded once to the dtype of W.
"""

import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint, read_tensor_rows
from jaxmerge.converters.finite import is_finite
from jaxmerge.converters.fit import FLOATS, HEAD
from jaxmerge.converters.lora import Lora, Product, Stored
from jaxmerge.converters.pickled import is_pickled, open_pickled
from jaxmerge.converters.reference import Location
from jaxmerge.converters.safetensors_header import TensorInfo
from jaxmerge.errors import CheckpointError

FITTING = "apply the LoRA to the model that it was trained on"

# Rows of a product that are computed at once, counted from the tensor's first: whichever rows are asked for, the same
# matrices are multiplied, and the same bits come of it.
ROWS = 256
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


@dataclass(frozen=True)
class Adapted(Checkpoint):
    """config, tensors: the model's; without its ties where the LoRA changes one of embedding and head.
    adapter: where the LoRA lies. products, shifts, whole: what it does, by the model's tensors: adds a product, adds to
    a bias, replaces."""

    adapter: Path
    products: Mapping[str, Product] = field(repr=False)
    shifts: Mapping[str, tuple[Stored, float]] = field(repr=False)
    whole: Mapping[str, Stored] = field(repr=False)

    @classmethod
    def over(cls, model: Checkpoint, lora: Lora) -> "Adapted":
        """Raises CheckpointError naming the LoRA's tensor that fits none of the model. Reads headers, and the LoRA's
        own embedding and head where the model ties them and both are given."""
        fit = _Fit(model, lora)
        products: dict[str, Product] = {}
        shifts: dict[str, tuple[Stored, float]] = {}
        whole: dict[str, Stored] = {}
        for module, product in lora.products.items():
            out = product.shape[1 if product.transposed else 0]
            name = fit.name(f"{module}.weight", product.a)
            wrong = product.b if out not in fit.known[name].shape else product.a
            products[fit.require(name, wrong, product.shape)] = product
            if product.bias is not None:
                bias = fit.name(f"{module}.bias", product.bias)
                shifts[fit.require(bias, product.bias, (out,))] = product.bias, product.scale
        for given, stored in lora.whole.items():
            whole[fit.require(fit.name(given, stored), stored, stored.info.shape)] = stored
        config, tensors = _ties(model, lora, products, whole)
        _warn(model, lora, products)
        return cls(model.folder, config, tensors, lora.folder, products, shifts, whole)

    @property
    def location(self) -> Location:
        return Location(self.folder, self.adapter)

    def read(self, name: str) -> np.ndarray:
        info = self.info(name)
        if info.shape:
            return self.read_rows(name, 0, info.shape[0])
        stored = self.whole.get(name)
        return super().read(name) if stored is None else self._rounded(stored, _wide(stored), info.dtype)

    def view(self, name: str) -> np.ndarray:
        """Mapped from the file where the adapter leaves a tensor as it is; else an array of its own."""
        changed = name in self.whole or name in self.products or name in self.shifts
        return self.read(name) if changed else super().view(name)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        info = self.info(name)
        start, stop, _ = slice(start, stop).indices(info.shape[0])
        stored = self.whole.get(name)
        if stored is None:
            rows = super().read_rows(name, start, stop)
        else:
            rows = self._rounded(stored, read_tensor_rows(stored.key, stored.info, start, stop), info.dtype)
        if name in self.products:
            self._add(rows, self.products[name], start)
        if name in self.shifts:
            shift, scale = self.shifts[name]
            added = np.float32(scale) * _wide(shift)[start:stop]
            rows = self._rounded(shift, rows.astype(np.float32) + added, info.dtype)
        return rows

    def factors(self, name: str) -> tuple[np.ndarray, np.ndarray, float] | None:
        """What is added to a matrix, `scale * up @ down`: down `[r, in]` and up `[out, r]` in the dtype of the LoRA's
        file, and scale. None where nothing is."""
        if (product := self.products.get(name)) is None:
            return None
        a, b = product.a.read(), product.b.read()
        return (b.T, a.T, product.scale) if product.transposed else (a, b, product.scale)

    def replaces(self, name: str) -> bool:
        """Whether a tensor is not the model's own and a product beside it."""
        return name in self.whole or name in self.shifts

    def _add(self, rows: np.ndarray, product: Product, start: int) -> None:
        """In place. start: the place of the first row in the tensor."""
        left, right = _wide(product.b), _wide(product.a)
        if product.transposed:
            left, right = np.ascontiguousarray(right.T), np.ascontiguousarray(left.T)
        for first in range(start - start % ROWS, start + len(rows), ROWS):
            delta = left[first : first + ROWS] @ right
            delta *= np.float32(product.scale)
            inside = slice(max(first - start, 0), first + len(delta) - start)
            block = rows[inside]
            wide = block.astype(np.promote_types(block.dtype, np.float32))
            wide += delta[max(start - first, 0) :][: len(block)]
            rows[inside] = self._rounded(product.b, wide, rows.dtype)

    def _rounded(self, stored: Stored, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
        with np.errstate(over="ignore"):
            rounded = array.astype(dtype, copy=False)
        if array.dtype != dtype and dtype == np.float16 and not is_finite(rounded) and is_finite(array):
            raise CheckpointError(
                f"{stored.info.file}: with '{stored.key}' the model has values beyond {dtype}; save the model in "
                "bfloat16 or float32"
            )
        return rounded


def _wide(stored: Stored) -> np.ndarray:
    return stored.read().astype(np.float32, copy=False)


@dataclass(frozen=True)
class _Fit:
    """known: the model's tensors; its head too where it has none of its own and the embedding stands for it."""

    model: Checkpoint
    lora: Lora
    known: Mapping[str, TensorInfo] = field(init=False)

    def __post_init__(self) -> None:
        embedding = embedding_of(self.model)
        ties = {} if embedding is None else {HEAD: self.model.tensors[embedding]}
        object.__setattr__(self, "known", ties | self.model.tensors)

    def name(self, given: str, stored: Stored) -> str:
        """What the model calls a tensor. Its checkpoint may leave out the first part of the name, as GPT-2's does."""
        if given in self.known:
            return given
        if (short := given.partition(".")[2]) in self.known:
            return short
        trained = f" ({self.lora.config.base_model})" if self.lora.config.base_model else ""
        raise CheckpointError(
            f"{stored.info.file}: '{stored.key}' fits no tensor of {self.model.folder}, which has no '{given}'; "
            f"{FITTING}{trained}"
        )

    def require(self, name: str, stored: Stored, shape: tuple[int, ...]) -> str:
        info = self.known[name]
        if info.shape != shape:
            raise CheckpointError(
                f"{stored.info.file}: '{stored.key}' is for a tensor {list(shape)}, but '{name}' is "
                f"{list(info.shape)} in {self.model.folder}; {FITTING}"
            )
        for dtype, where in (
            (info.dtype, f"{info.file}: tensor '{name}'"),
            (stored.info.dtype, f"{stored.info.file}: '{stored.key}'"),
        ):
            if dtype not in (*FLOATS, np.float64):
                raise CheckpointError(f"{where} is {dtype}; save it without quantization, in BF16, F16 or F32")
        return name


def embedding_of(model: Checkpoint) -> str | None:
    """The tensor that is the head's too, where a model ties them."""
    return next((name for name in model.tensors if name.endswith(EMBEDDINGS)), None)


def _ties(
    model: Checkpoint, lora: Lora, products: MutableMapping[str, Product], whole: MutableMapping[str, Stored]
) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """Config and tensors. Where the model has one matrix for embedding and head, and the LoRA changes only one of
    them, or both differently, there are two from now on; what is to be both stands at the embedding alone."""
    embedding = embedding_of(model)
    tied = HEAD not in model.tensors or model.config.get("tie_word_embeddings") is True
    if embedding is None or not tied or not {embedding, HEAD} & {*products, *whole}:
        return model.config, model.tensors
    module = embedding.removesuffix(".weight")
    trained_alone = any(module.endswith(name) for name in lora.config.whole)
    if embedding in whole and HEAD not in whole and not trained_alone:
        # Not trained, but saved with the LoRA as the model has it: the matrix of both.
        whole[HEAD] = whole[embedding]
    alike = not {embedding, HEAD} & {*products} and {embedding, HEAD} <= {*whole}
    tensors = dict(model.tensors)
    if lora.config.tied or (alike and _equal(whole[embedding], whole[HEAD])):
        tensors.pop(HEAD, None)
        if HEAD in products:
            products.setdefault(embedding, products.pop(HEAD))
        if HEAD in whole:
            whole.setdefault(embedding, whole.pop(HEAD))
        return model.config, tensors
    tensors.setdefault(HEAD, tensors[embedding])
    return model.config | {"tie_word_embeddings": False}, tensors


def _equal(one: Stored, other: Stored) -> bool:
    """Bit for bit."""
    if one == other:
        return True
    if (one.info.shape, one.info.dtype) != (other.info.shape, other.info.dtype):
        return False

    def rows(stored: Stored, start: int) -> bytes:
        return read_tensor_rows(stored.key, stored.info, start, start + ROWS).tobytes()

    return all(rows(one, start) == rows(other, start) for start in range(0, one.info.shape[0], ROWS))


def _warn(model: Checkpoint, lora: Lora, products: Mapping[str, Product]) -> None:
    """Of what may be an accident and may be meant."""
    config = lora.config
    # Where embedding and head are trained as one, only one of them is named.
    named = (module for module in lora.products if not (config.tied and f"{module}.weight" == HEAD))
    strangers = [module for module in named if not config.is_target(module)]
    if strangers:
        warnings.warn(
            f"{config.file}: target_modules does not name '{strangers[0]}' ({len(strangers)} such), which is applied",
            stacklevel=4,
        )
    modules = (name.removesuffix(".weight") for name, info in model.tensors.items() if len(info.shape) == 2)
    missing = [m for m in modules if config.targets and config.is_target(m) and f"{m}.weight" not in products]
    if missing and not config.some_layers and config.targets != "all-linear":
        warnings.warn(
            f"{config.file}: target_modules names '{missing[0]}' ({len(missing)} such), for which the LoRA has nothing",
            stacklevel=4,
        )
    own = {model.folder.resolve().name, _hub_name(model), str(model.config.get("_name_or_path", "")).split("/")[-1]}
    if config.base_model is not None and config.base_model.rstrip("/").split("/")[-1] not in own:
        warnings.warn(
            f"{lora.folder}: was trained on {config.base_model}, and is applied to {model.folder}", stacklevel=4
        )


def _hub_name(model: Checkpoint) -> str:
    """A snapshot of the hub lies in models--org--name/snapshots/commit."""
    return model.folder.parent.parent.name.split("--")[-1]


def open_checkpoint(location: Location, *, allow_pickle: bool = False) -> Checkpoint:
    """The checkpoint at a location, with its LoRA. allow_pickle: read pickled weights where there are no others, see
    `open_pickled`. Raises as `Checkpoint.open`, `open_pickled`, `Lora.open` and `Adapted.over`."""
    folder = location.folder
    model = open_pickled(folder) if allow_pickle and is_pickled(folder) else Checkpoint.open(folder)
    if location.adapter is None:
        return model
    return Adapted.over(model, Lora.open(location.adapter, model.config.get("model_type")))
