"""LoRAs in PEFT's format, random, written by the safetensors library."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def product(module: str, shape: tuple[int, int], rank: int = 4, *, seed: int = 0, **spelling: str) -> dict[str, Any]:
    """lora_A `[rank, in]` and lora_B `[out, rank]` of a module whose weights are `[out, in]`. spelling: prefix of the
    names, and what stands before `.weight`."""
    prefix, name = spelling.get("prefix", "base_model.model."), spelling.get("name", "")
    rng = np.random.default_rng([seed, *module.encode()])
    out, into = shape
    return {
        f"{prefix}{module}.lora_A{name}.weight": rng.normal(0, 0.3, (rank, into)).astype(np.float32),
        f"{prefix}{module}.lora_B{name}.weight": rng.normal(0, 0.3, (out, rank)).astype(np.float32),
    }


def write_lora(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    """config: what differs in adapter_config.json from rank 4 and scale 2 on `model`; the targets are those of the
    tensors. A value of None leaves a key out."""
    folder.mkdir(parents=True)
    modules = {key.split(".lora_")[0].removeprefix("base_model.model.") for key in tensors if ".lora_" in key}
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "model",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    content = {key: value for key, value in (content | config).items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    save_file(
        {key: np.asarray(value, order="C") for key, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    return folder
