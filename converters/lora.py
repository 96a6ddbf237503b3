"""A LoRA in PEFT's folder: adapter_config.json and adapter_model.safetensors, of which the headers are read.

Hu et al. 2021 (arXiv:2106.09685): a module's weights W stand for W + scale * B @ A.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxmerge.converters.checkpoint import read_tensor
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.lora_config import DORA, MERGE_WITH_PEFT, LoraConfig
from jaxmerge.converters.safetensors_header import TensorInfo, read_header
from jaxmerge.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
PREFIX = "base_model.model."
# The name that the adapter had in memory may stand behind the part's.
PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B)"
    r"(?:\.(?!(?:weight|bias)$)(?P<adapter>[^.]+))?(?:\.(?P<what>weight|bias))?"
)
# Families whose layers are Conv1D, in which transformers keeps weights as [in, out].
INPUTS_FIRST = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
CONV1D = re.compile(r"(.+\.)?h\.\d+\..+")
WRAPPED = re.compile(r"\.modules_to_save(?:\.(?!(?:weight|bias)$)[^.]+(?=\.))?")


@dataclass(frozen=True)
class Stored:
    """A tensor of the file. key: its name there."""

    key: str
    info: TensorInfo

    def read(self) -> np.ndarray:
        """In its own dtype. CheckpointError where a value is NaN or infinite."""
        array = read_tensor(self.key, self.info)
        require_finite(f"{self.info.file}: tensor '{self.key}'", array)
        return array


@dataclass(frozen=True)
class Product:
    """What is added to the weights of a module: scale * b @ a, of a `[r, in]` and b `[out, r]`; its transpose, where
    the weights are `[in, out]`. bias: what is added to the module's bias, also scaled."""

    a: Stored
    b: Stored
    scale: float
    transposed: bool
    bias: Stored | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weights."""
        out, into = self.b.info.shape[0], self.a.info.shape[1]
        return (into, out) if self.transposed else (out, into)


@dataclass(frozen=True)
class Lora:
    """folder: where it lies. products: by the name of the module. whole: tensors that stand in place of the model's, by
    the model's names."""

    folder: Path
    config: LoraConfig
    products: Mapping[str, Product] = field(repr=False)
    whole: Mapping[str, Stored] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path, model_type: str | None) -> "Lora":
        """Read config and header. model_type: of the model that it is for. InputError and CheckpointError as
        `LoraConfig.read`, and CheckpointError where the weights are pickled, of another kind of adapter, incomplete or
        do not fit the config."""
        folder = Path(folder)
        config = LoraConfig.read(folder)
        file = folder / WEIGHTS
        if not file.is_file():
            if (folder / PICKLED).is_file():
                raise CheckpointError(
                    f"{folder}: has a pickled {PICKLED}, which may run code and is not read; load it with peft and "
                    "save_pretrained(NEW_FOLDER)"
                )
            raise CheckpointError(f"{folder}: has no {WEIGHTS}; name the folder of a LoRA that peft wrote")
        parts, whole = _sorted(file, read_header(file))
        if not parts and not whole:
            raise CheckpointError(f"{file}: has no tensor; save the LoRA again")
        products = {module: _product(file, config, module, of, model_type) for module, of in parts.items()}
        return cls(folder, config, products, whole)


def keeps_inputs_first(model_type: str | None, module: str) -> bool:
    """Whether a linear layer's weights are `[in, out]`: those of the layers of INPUTS_FIRST. What stands outside of
    these layers, such as the head, is an ordinary linear layer there too."""
    return model_type in INPUTS_FIRST and CONV1D.fullmatch(module) is not None


def _sorted(file: Path, tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, dict[str, Stored]], dict[str, Stored]]:
    """Parts of products by module and part, and whole tensors."""
    parts: dict[str, dict[str, Stored]] = {}
    whole: dict[str, Stored] = {}
    for key, info in tensors.items():
        name = key.removeprefix(PREFIX)
        if "lora_magnitude_vector" in name:
            raise CheckpointError(f"{file}: has '{key}': it {DORA}; {MERGE_WITH_PEFT}")
        if match := PART.fullmatch(name):
            part = match["part"] + ("_bias" if match["what"] == "bias" else "")
            _put(file, parts.setdefault(match["module"], {}), part, Stored(key, info))
        elif re.search(r"\.lora_|trainable_tokens", name):
            raise CheckpointError(f"{file}: '{key}' is no part of a plain LoRA; {MERGE_WITH_PEFT}")
        else:
            _put(file, whole, WRAPPED.sub("", name).replace(".base_layer.", "."), Stored(key, info))
    return parts, whole


def _put(file: Path, place: dict[str, Stored], name: str, stored: Stored) -> None:
    if name in place:
        raise CheckpointError(f"{file}: '{place[name].key}' and '{stored.key}' are the same; keep one adapter")
    place[name] = stored


def _product(
    file: Path, config: LoraConfig, module: str, parts: Mapping[str, Stored], model_type: str | None
) -> Product:
    for one, other in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
        for here, lacking in ((one, other), (other, one)):
            if here in parts and lacking not in parts:
                raise CheckpointError(f"{file}: has '{parts[here].key}' but no {lacking} for it; save the LoRA again")
    kinds = [kind for kind in ("lora_", "lora_embedding_") if f"{kind}A" in parts]
    if len(kinds) != 1:
        what = "lora_A and lora_embedding_A" if kinds else f"'{next(iter(parts.values())).key}' without a product"
        raise CheckpointError(f"{file}: has {what} for '{module}'; save the LoRA again")
    a, b = parts[f"{kinds[0]}A"], parts[f"{kinds[0]}B"]
    rank = config.rank_of(module)
    for stored, axis in ((a, 0), (b, 1)):
        shape = stored.info.shape
        if len(shape) != 2:
            raise CheckpointError(
                f"{file}: '{stored.key}' has {len(shape)} axes and only matrices are read; {MERGE_WITH_PEFT}"
            )
        if shape[axis] != rank:
            raise CheckpointError(
                f"{file}: '{stored.key}' is {list(shape)}, of rank {shape[axis]}, but {config.file.name} makes it rank "
                f"{rank}; correct r or rank_pattern"
            )
    if model_type in INPUTS_FIRST:
        # PEFT leaves the flag as the module that it handled last needs it, which may be the head.
        turned = keeps_inputs_first(model_type, module)
    else:
        turned = config.transposed and not module.endswith("lm_head")
    transposed = turned or kinds[0] == "lora_embedding_"
    return Product(a, b, config.scale_of(module), transposed, parts.get("lora_B_bias"))
