"""The modules of composite models: which tensors belong to each, and which part of config.json speaks of it.

A module's name is the first part of its tensors' names (`encoder`, `vision_tower`), or one that mergekit gives the
parts of models that see: `text_decoder`, `vision_tower` or `vision_model`, `multi_modal_projector`. `text_decoder`,
`shared` and `default` have whatever belongs to none of the others.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from jaxmerge.converters.checkpoint import Checkpoint

# Before their first dot, tensors have these names in checkpoints of different ages and makers.
VISION = ("vision_tower", "vision_model", "visual", "vision_encoder", "vision_embed_tokens")
PROJECTORS = (
    "multi_modal_projector",
    "mm_projector",
    "connector",
    "visual.merger",
    "visual.merger_list",
    "visual.deepstack_merger_list",
)
PREFIXES = {"vision_tower": VISION, "vision_model": VISION, "multi_modal_projector": PROJECTORS}
REST = ("text_decoder", "shared", "default")
# Parts of config.json.
SECTIONS = {
    "text_decoder": ("text_config", "llm_config", "language_config"),
    "vision_tower": ("vision_config",),
    "vision_model": ("vision_config",),
}


def module_of(tensor: str, modules: Collection[str]) -> str | None:
    """The one of a recipe's modules that a tensor belongs to."""
    name = tensor.removeprefix("model.")
    # `visual.merger` is no part of the tower, whether the recipe speaks of it or not.
    prefixes = {prefix: module for module in (*PREFIXES, *modules) for prefix in PREFIXES.get(module, (module,))}
    claims = [prefix for prefix in prefixes if f"{name}.".startswith(f"{prefix}.")]
    if claims:
        longest = max(claims, key=len)
        owners = [module for module in modules if longest in PREFIXES.get(module, (module,))]
        return next(iter(owners), None)
    return next((module for module in REST if module in modules), None)


def only(model: Checkpoint, module: str | None, modules: Collection[str]) -> Checkpoint:
    """The model with nothing but the tensors of a module (None: those of no module) and its part of config.json."""
    tensors = {name: info for name, info in model.tensors.items() if module_of(name, modules) == module}
    config = section_of(model.config, module)
    if module not in REST and config is model.config:
        # The depth of the text model, which says nothing of others.
        config = {key: value for key, value in config.items() if key != "num_hidden_layers" or module == "encoder"}
    ties = {key: model.config[key] for key in ("tie_word_embeddings",) if key in model.config}
    return replace(model, config=ties | config, tensors=tensors)


def section_of(config: dict[str, Any], module: str | None) -> dict[str, Any]:
    """The part of config.json that speaks of a module, or all of it."""
    key = section_key(config, module)
    return config if key is None else config[key]


def section_key(config: dict[str, Any], module: str | None) -> str | None:
    return next((key for key in SECTIONS.get(module or "", ()) if isinstance(config.get(key), dict)), None)
