"""What models are, how far they moved from their base, how alike they are, and whether they can be merged.

Kinship is measured on task vectors, delta = theta - theta_base, by Pearson's correlation, cosine and
Euclidean distance (Model Kinship, arXiv 2410.12613).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxmerge.architectures.registry import ARCHITECTURES
from jaxmerge.converters.adapted import Adapted, open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.reference import resolve
from jaxmerge.errors import InputError
from jaxmerge.merging.kinship import Moments, group_of, measure_deltas, shared_tensors

# Keys that change what the same tensors mean: merging by tensor name goes through, the result may be of no
# use.
MEANING = (
    "hidden_act",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "layer_types",
)
MOST_DIFFERENCES = 5


def inspect(
    models: Sequence[str], base: str | None = None, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Inspect folders or hub ids of any architecture; returns plain values, ready for JSON.

    Keys: `models` and `base` (what each is, from its headers), `mergeable` (with `differences` that prevent
    it and `notes` on what may), and, where a base is given, `deltas` (a dictionary a model: norm, mean of
    absolute values, share of changed elements, norm relative to the base's; in all and by group) and
    `kinship` (matrices over the models; None where a delta is zero). Deltas cover the tensors that all have
    in the same shape. progress: called with tensors done and in all. Tensors are read by blocks of rows, sums
    are float64.
    """
    if not models:
        raise InputError("no models to inspect; name at least one folder or hub id")
    opened = [open_checkpoint(resolve(ref, relative_to=[Path.cwd()])) for ref in models]
    base_opened = open_checkpoint(resolve(base, relative_to=[Path.cwd()])) if base is not None else None
    everything = ([(base, base_opened)] if base is not None and base_opened else []) + list(
        zip(models, opened, strict=True)
    )
    differences, notes = _differences(everything)
    result: dict[str, Any] = {
        "models": [_describe(ref, checkpoint) for ref, checkpoint in zip(models, opened, strict=True)],
        "base": _describe(base, base_opened) if base is not None and base_opened else None,
        "mergeable": not differences,
        "differences": differences,
        "notes": notes,
        "deltas": None,
        "kinship": None,
    }
    if base_opened is not None and shared_tensors([base_opened, *opened]):
        moments = measure_deltas(base_opened, opened, progress)
        total = sum(moments.values(), start=Moments.zero(len(opened)))
        result["deltas"] = [
            {
                "model": ref,
                "total": total.delta(i),
                "groups": {group: part.delta(i) for group, part in moments.items()},
            }
            for i, ref in enumerate(models)
        ]
        result["kinship"] = {"models": list(models)} | total.kinship() if len(models) > 1 else None
    return result


def _describe(ref: str, checkpoint: Checkpoint) -> dict[str, Any]:
    config, tensors = checkpoint.config, checkpoint.tensors
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    dtypes: Counter[str] = Counter()
    for info in tensors.values():
        dtypes[info.dtype.name] += info.nbytes // info.dtype.itemsize
    layers = {group for group in map(group_of, tensors) if group.startswith("layer ")}
    return {
        "model": ref,
        "folder": str(checkpoint.location),
        "lora": _lora(checkpoint),
        "architecture": next(iter(config.get("architectures") or []), None),
        "model_type": config.get("model_type"),
        "evolvable": config.get("model_type") in ARCHITECTURES,
        "parameters": sum(dtypes.values()),
        "bytes": sum(info.nbytes for info in tensors.values()),
        "tensors": len(tensors),
        "dtype": dtypes.most_common(1)[0][0] if dtypes else None,
        "dtypes": dict(dtypes),
        "layers": len(layers),
        "hidden_size": text.get("hidden_size"),
        "heads": text.get("num_attention_heads"),
        "kv_heads": text.get("num_key_value_heads"),
        "vocabulary": text.get("vocab_size"),
        "tied": not any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in tensors),
    }


def _lora(checkpoint: Checkpoint) -> dict[str, int] | None:
    """The largest rank of a LoRA on a model, and how many tensors it changes."""
    if not isinstance(checkpoint, Adapted):
        return None
    ranks = [product.a.info.shape[0] for product in checkpoint.products.values()]
    changed = {*checkpoint.products, *checkpoint.shifts, *checkpoint.whole}
    return {"rank": max(ranks, default=0), "tensors": len(changed)}


def _differences(models: list[tuple[str, Checkpoint]]) -> tuple[list[str], list[str]]:
    """What prevents merging, and what may spoil it; each model against the first."""
    differences: list[str] = []
    notes: list[str] = []
    (first_ref, first), *others = models
    for ref, other in others:
        found = []
        for key in ("model_type", "num_hidden_layers", "vocab_size"):
            found += _key_difference(key, first_ref, first, ref, other)
        for name in [*first.tensors, *(name for name in other.tensors if name not in first.tensors)]:
            if name not in other.tensors or name not in first.tensors:
                missing = ref if name not in other.tensors else first_ref
                found.append(f"tensor '{name}' is missing in {missing}")
            elif first.tensors[name].shape != other.tensors[name].shape:
                shapes = list(first.tensors[name].shape), list(other.tensors[name].shape)
                found.append(f"tensor '{name}' is {shapes[0]} in {first_ref} and {shapes[1]} in {ref}")
        if len(found) > MOST_DIFFERENCES:
            found[MOST_DIFFERENCES:] = [f"and {len(found) - MOST_DIFFERENCES} more in {ref}"]
        differences += found
        for key in MEANING:
            notes += _key_difference(key, first_ref, first, ref, other)
    return differences, notes


def _key_difference(key: str, a_ref: str, a: Checkpoint, b_ref: str, b: Checkpoint) -> list[str]:
    ours, theirs = a.config.get(key), b.config.get(key)
    return [] if ours == theirs else [f"config.json: '{key}' is {ours} in {a_ref} and {theirs} in {b_ref}"]
