"""A mixture of experts from dense models: their MLPs side by side, a router before them, all else from the base."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import jaxmerge
from jaxmerge.converters.companions import copy_companions
from jaxmerge.converters.config_changes import settle_config
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import cast
from jaxmerge.converters.output_folder import output_folder, require_absent, require_apart
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, ShardWriter, parse_size
from jaxmerge.errors import InputError
from jaxmerge.merging.card import CARD, Parent, front_matter, local_names, parents_section
from jaxmerge.merging.experts.plan import Plan, Router, Source, plan_mixture

RECIPE = "mergekit_moe_config.yml"
GATES = {
    "hidden": "point to the hidden states of prompts",
    "cheap_embed": "point to the embeddings of prompts",
    "random": "are random, to be trained",
    "zero": "are zero, to be trained",
}


def moe(
    recipe: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Make a mixture of experts by a recipe of mergekit-moe's and return the folder, which `transformers` loads.

    seed: of random routers and of noise. The folder appears when it is complete. Raises InputError for what is wrong
    with the recipe or `out` and for models that are not alike, CheckpointError for models that are broken, before a
    weight is read.
    """
    file, folder = Path(recipe), Path(out)
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be at least 0")
    parse_size(max_shard_size)
    require_absent(folder, force=force)
    plan = plan_mixture(file)
    require_apart(folder, [model.location for model in plan.models.values()])
    routers = _routers(plan, seed)
    entries = [(name, plan.dtype, shape) for name, (shape, _) in plan.tensors.items()]
    with output_folder(folder, force=force) as part:
        with ShardWriter(part, entries, max_shard_size) as writer:
            for place, (name, (_, source)) in enumerate(plan.tensors.items()):
                if isinstance(source, Router):
                    array = routers[source.layer, source.first : source.end]
                else:
                    array = _changed(source, np.random.default_rng([seed, place]))
                writer.write(name, cast(name, array, plan.dtype))
                progress(place + 1, len(entries))
        copy_companions(plan.base.folder, part)
        settle_config(plan.config, part)
        (part / RECIPE).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        (part / CARD).write_text(_card(plan), encoding="utf-8")
    return folder


def _routers(plan: Plan, seed: int) -> np.ndarray:
    """`[layers, experts, hidden]`, float32; shared experts last."""
    mode, hidden = plan.recipe.gate_mode, plan.config["hidden_size"]
    shape = plan.config["num_hidden_layers"], len(plan.experts), hidden
    if mode == "zero":
        return np.zeros(shape, np.float32)
    if mode == "random":
        spread = plan.config.get("initializer_range", 0.02)
        return np.random.default_rng(seed).normal(0.0, spread, shape).astype(np.float32)
    from jaxmerge.merging.experts.router import rows_by_embeddings, rows_by_states

    made = rows_by_states if mode == "hidden" else rows_by_embeddings
    return made(plan.base, plan.experts)


def _changed(source: Source, random: np.random.Generator) -> np.ndarray:
    array = source.model.read(source.name)
    require_finite(f"{source.model.info(source.name).file}: tensor '{source.name}'", array)
    if source.noise:
        array = array.astype(np.float32) + np.float32(source.noise) * random.standard_normal(array.shape, np.float32)
    return array if source.scale == 1.0 else array.astype(np.float32) * np.float32(source.scale)


def _card(plan: Plan) -> str:
    names = local_names(plan.models)
    parents = [Parent.of("", reference, model.location, names) for reference, model in plan.models.items()]
    text = (
        f"{len(plan.recipe.experts)} experts, of which {plan.recipe.experts_per_token} are active for a token, on the "
        f"attention of `{parents[0].model}`; the routers {GATES[plan.recipe.gate_mode]}. Made by jaxmerge "
        f"{jaxmerge.__version__}."
    )
    return "\n\n".join((front_matter(parents), "# A mixture of experts", text, parents_section(parents))) + "\n"
