"""The config.json of a merge: that of the model it is like, with what has changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmerge.architectures.registry import ARCHITECTURES
from jaxmerge.architectures.windows import FULL
from jaxmerge.converters.checkpoint import CONFIG, Checkpoint
from jaxmerge.converters.config_changes import changed_config
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.recipe.dtypes import is_float
from jaxmerge.recipe.layers import DEPTH_KEYS
from jaxmerge.recipe.modules import REST, section_key
from jaxmerge.recipe.slices import Slice
from jaxmerge.recipe.tensors import TensorPlan
from jaxmerge.recipe.vocabulary import VocabularyPlan


def output_config(
    models: Sequence[Checkpoint],
    like: int,
    parts: Mapping[str | None, Sequence[Slice]],
    tensors: Sequence[TensorPlan],
    vocabulary: VocabularyPlan | None,
) -> dict[str, Any]:
    """The config.json of `like` with depth, lists of a value a layer and dtype as the output has them.

    parts: the slices of each module. Raises CheckpointError where a module's depth changes of which config.json says
    nothing."""
    source = models[like].config
    floats = {tensor.dtype for tensor in tensors if is_float(tensor.dtype)}
    dtype = max(floats, key=lambda d: sum(t.nbytes for t in tensors if t.dtype == d)) if floats else None
    if vocabulary is not None:
        source = changed_config(source, vocab_size=vocabulary.size) | dict(vocabulary.special)
    changed = changed_config(source, dtype=dtype)
    for module, own in parts.items():
        if any(part.depth is not None for part in own):
            key = section_key(changed, module)
            section = _with_layers(models, like, module, own, changed, key)
            changed = section if key is None else changed | {key: section}
    return changed


def _with_layers(
    models: Sequence[Checkpoint],
    like: int,
    module: str | None,
    parts: Sequence[Slice],
    config: dict[str, Any],
    key: str | None,
) -> dict[str, Any]:
    """config: the output's so far. key: of the part of it that speaks of the module, and is returned."""
    section = config if key is None else config[key]
    layers = [_layer_source(part, like) + i for part in parts for i in range(part.depth or 0)]
    changed = dict(section)
    depths = [name for name in (*DEPTH_KEYS, "depth") if name in section and (key or _speaks_of(name, module))]
    if module is not None and not depths:
        raise CheckpointError(
            f"{models[like].folder / CONFIG}: says nowhere how many layers '{module}' has; merge it with models "
            "instead of slices"
        )
    if module not in ("encoder", "decoder") and (module is None or "num_hidden_layers" in depths):
        # A layer of a deeper model than `like` takes the last value of its lists.
        last = int(section.get("num_hidden_layers", len(layers))) - 1
        changed = changed_config(section, layers=[min(layer, last) for layer in layers])
        if kinds := _layer_types(models, like, parts):
            changed["layer_types"] = kinds
    return changed | {name: len(layers) for name in depths}


def _speaks_of(key: str, module: str | None) -> bool:
    """Whether an entry of the whole config.json is the depth of a module. Where there are encoder and decoder, the keys
    of the encoder bear any name."""
    if module in ("encoder", "decoder"):
        return ("decoder" in key) == (module == "decoder")
    return module is None or module in REST


def _layer_types(models: Sequence[Checkpoint], like: int, parts: Sequence[Slice]) -> list[str]:
    """The kind of attention of each output layer, as it was in its own model: by the number that the layer has now,
    another might have the window. Empty where `like` has no windows."""
    if _kinds(models[like]) is None:
        return []
    found: list[str] = []
    for part in parts:
        own = next((i for i in part.inputs if i.model == like), part.inputs[0])
        depth = part.depth or 0
        kinds = _kinds(models[own.model])
        found += [FULL] * depth if kinds is None else kinds[own.first : own.first + depth]
    return found


def _kinds(model: Checkpoint) -> list[str] | None:
    architecture = ARCHITECTURES.get(model.config.get("model_type", ""))
    if architecture is None or architecture.layer_types is None:
        return None
    try:
        return architecture.layer_types(model.config)
    except InputError:
        return None  # merged by its tensors' names, see `require_whole`


def _layer_source(part: Slice, like: int) -> int:
    """The first layer of `like` in a slice, or of the slice's first input where `like` is not in it."""
    return next((i.first for i in part.inputs if i.model == like), part.inputs[0].first)
