"""A LoRA written as a PEFT folder, which PEFT loads and `lora` reads."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.checkpoint import ADAPTER_CONFIG, SINGLE
from jaxmerge.converters.fit import HEAD
from jaxmerge.converters.lora import PREFIX, WEIGHTS
from jaxmerge.converters.writer import ShardWriter

HEAD_MODULE = HEAD.removesuffix(".weight")


@dataclass
class NewLora:
    """base: a folder, or a hub id, with its revision there. products: a `[r, in]` and b `[out, r]` by module; those of
    `embeddings` are looked up, in is the number of rows. whole: tensors by the model's names. inputs_first: whether the
    model's layers keep weights as [in, out]. tied: the embedding whose matrix is the head's too."""

    base: str
    revision: str | None = None
    inputs_first: bool = False
    tied: str | None = None
    products: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    embeddings: set[str] = field(default_factory=set)
    whole: dict[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path, modules: Collection[str], dtype: np.dtype) -> None:
        """Write weights and config into a folder. modules: all of the model that a LoRA might target. dtype: of the
        products."""
        tensors = dict(self._tensors(dtype))
        entries = [(name, array.dtype, array.shape) for name, array in tensors.items()]
        with ShardWriter(folder, entries, 1 + sum(array.nbytes for array in tensors.values())) as writer:
            for name, array in tensors.items():
                writer.write(name, array)
        (folder / SINGLE).rename(folder / WEIGHTS)
        config = json.dumps(self._config(modules), indent=2, ensure_ascii=False)
        (folder / ADAPTER_CONFIG).write_text(config + "\n", encoding="utf-8")

    @property
    def _all(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """The head's product too, where the embedding's is meant for both."""
        if self.tied not in self.products:
            return self.products
        a, b = self.products[self.tied]
        return self.products | {HEAD_MODULE: (b.T, a.T)}

    def _tensors(self, dtype: np.dtype) -> Any:
        for module, pair in self._all.items():
            for side, array in zip("AB", pair, strict=True):
                part = f"lora_embedding_{side}" if module in self.embeddings else f"lora_{side}.weight"
                yield f"{PREFIX}{module}.{part}", array.astype(dtype)
        for name, array in self.whole.items():
            yield PREFIX + name, array
            if name == f"{self.tied}.weight":
                yield PREFIX + HEAD, array

    def _config(self, modules: Collection[str]) -> dict[str, Any]:
        ranks = {module: len(a) for module, (a, _) in self._all.items()}
        rank = max(ranks.values(), default=1)
        # Scale is one: alpha is the rank, of every module.
        others = {module: own for module, own in ranks.items() if own != rank}
        saved = sorted({name.rpartition(".")[0] for name in self.whole})
        if self.tied in saved:
            saved.append(HEAD_MODULE)
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "revision": self.revision,
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": others,
            "alpha_pattern": others,
            "target_modules": _targets(ranks, modules),
            "modules_to_save": saved or None,
            "fan_in_fan_out": self.inputs_first,
            "lora_dropout": 0.0,
            "bias": "none",
            "use_rslora": False,
            "inference_mode": True,
        } | ({"ensure_weight_tying": True} if self.tied in self.products else {})


def _targets(chosen: Collection[str], modules: Collection[str]) -> list[str]:
    """The ends of the modules' names where all of that end are meant, else whole names."""
    ends: dict[str, set[str]] = {}
    for module in {*chosen, *modules}:
        ends.setdefault(module.rpartition(".")[2], set()).add(module)
    named = {module.rpartition(".")[2]: module for module in chosen}
    whole = {end for end in named if ends[end] <= {*chosen}}
    return sorted({end if (end := module.rpartition(".")[2]) in whole else module for module in chosen})
