"""adapter_config.json of a LoRA, as PEFT writes it: rank and scale of every module, and what is refused."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.converters.checkpoint import ADAPTER_CONFIG, CONFIG, read_json
from jaxmerge.errors import CheckpointError, InputError

DORA = "is a DoRA, which is no sum of the weights and a product"
MERGE_WITH_PEFT = "merge it with peft (merge_and_unload, save_pretrained) and name the folder that this writes"
# Keys of PEFT that change what is computed, with what they mean.
VARIANTS = {
    "use_dora": DORA,
    "use_qalora": "is a QALoRA, whose inputs are pooled",
    "use_bdlora": "is a block-diagonal LoRA",
    "kasa_config": "is a KaSA adapter",
    "arrow_config": "is an Arrow router over several LoRAs",
    "monteclora_config": "is a MonteCLoRA adapter",
    "alora_invocation_tokens": "is an activated LoRA, which acts on a part of the text only",
    "layer_replication": "repeats layers of the model",
    "trainable_token_indices": "changes single rows of the embedding",
    "target_parameters": "targets parameters that are no module's weight",
}
# Initialisations that take the product off the model's weights, so that it does not stand on the model itself.
SHIFTED = ("pissa", "corda", "olora", "loftq", "lora_ga")


@dataclass(frozen=True)
class LoraConfig:
    """What of adapter_config.json decides about the weights. base_model: the name of the model that the LoRA was
    trained on. targets, excluded: modules by the end of their names, or a pattern of the whole name. whole: names of
    modules that were trained as a whole."""

    file: Path
    base_model: str | None
    rank: int
    alpha: float
    rank_stabilised: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    transposed: bool
    tied: bool
    targets: tuple[str, ...] | str | None
    excluded: tuple[str, ...] | str
    some_layers: bool
    whole: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> "LoraConfig":
        """InputError where `folder` is none, CheckpointError for a config that is missing, malformed or of another kind
        of adapter."""
        if not folder.is_dir():
            raise InputError(f"{folder}: is a file, a LoRA is a folder; name a folder with {ADAPTER_CONFIG}")
        file = folder / ADAPTER_CONFIG
        if not file.is_file():
            whole = " and config.json, so it is a model of its own; name it without '+'"
            raise CheckpointError(
                f"{folder}: has no {ADAPTER_CONFIG}"
                + (whole if (folder / CONFIG).is_file() else "; name the folder of a LoRA that peft wrote")
            )
        content = read_json(file, strict=True)
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: is not a JSON object; save the LoRA again")
        _refuse(file, content)
        return cls(
            file,
            _text(content.get("base_model_name_or_path")),
            _rank(file, "r", content.get("r")),
            _number(file, "lora_alpha", content.get("lora_alpha")),
            content.get("use_rslora") is True,
            {key: _rank(file, "rank_pattern", value) for key, value in _pattern(file, content, "rank_pattern")},
            {key: _number(file, "alpha_pattern", value) for key, value in _pattern(file, content, "alpha_pattern")},
            content.get("fan_in_fan_out") is True,
            content.get("ensure_weight_tying") is True,
            _modules(file, content, "target_modules") or None,
            _modules(file, content, "exclude_modules") or (),
            content.get("layers_to_transform") not in (None, []),
            tuple(_modules(file, content, "modules_to_save") or ()),
        )

    def rank_of(self, module: str) -> int:
        return self.ranks.get(_key(self.ranks, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of the product."""
        rank, alpha = self.rank_of(module), self.alphas.get(_key(self.alphas, module), self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def is_target(self, module: str) -> bool:
        """Whether `target_modules` names a module; everything, where it says nothing that can be told from the name."""
        if self.targets is None or self.targets == "all-linear":
            return True
        return _named(self.targets, module) and not _named(self.excluded, module)


def _refuse(file: Path, content: Mapping[str, Any]) -> None:
    kind = content.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{file}: peft_type is {kind!r}, and only LORA is read; {MERGE_WITH_PEFT}")
    for key, what in VARIANTS.items():
        if content.get(key):
            raise CheckpointError(f"{file}: {key} is set: it {what}; {MERGE_WITH_PEFT}")
    start = content.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(SHIFTED):
        raise CheckpointError(
            f"{file}: init_lora_weights is {start!r}, which changes the model's own weights; save it with peft's "
            "path_initial_model_for_weight_conversion, which makes a plain LoRA of it"
        )


def _key(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that stands for the end of the module's name, from a dot on."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)


def _named(modules: tuple[str, ...] | str, module: str) -> bool:
    if isinstance(modules, str):
        return re.fullmatch(modules, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in modules)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _rank(file: Path, key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{file}: {key} is {value!r}, not a whole number of at least 1; correct it")
    return value


def _number(file: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"{file}: {key} is {value!r}, not a number; correct it")
    return float(value)


def _pattern(file: Path, content: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: {key} is no mapping of patterns; correct it")
    for pattern in value:
        _require_pattern(file, key, pattern)
    return list(value.items())


def _modules(file: Path, content: Mapping[str, Any], key: str) -> tuple[str, ...] | str | None:
    value = content.get(key)
    if isinstance(value, str):
        _require_pattern(file, key, value)
        return value
    if value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        return None if value is None else tuple(value)
    raise CheckpointError(f"{file}: {key} is neither names of modules nor a pattern; correct it")


def _require_pattern(file: Path, key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise CheckpointError(f"{file}: {key} has {pattern!r}, which is no regular expression ({error})") from None
