"""The recipe's `models` or `slices` as one list of output slices, with models as indices and layer ranges checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxmerge.documents import Document, Keys
from jaxmerge.operators.interface import Operator
from jaxmerge.recipe import schema
from jaxmerge.recipe.layers import Layers
from jaxmerge.recipe.schema import Parameters, Recipe


@dataclass(frozen=True, eq=False)
class Input:
    """A model's part in a slice.

    model: index among the plan's models. first: its first layer. keys: where the recipe names it.
    """

    model: int
    first: int
    parameters: Parameters
    keys: Keys


@dataclass(frozen=True, eq=False)
class Slice:
    """Consecutive output layers with the same inputs.

    offset: the first output layer. depth: how many; None for all layers of every stack. base: index of the base model.
    """

    inputs: tuple[Input, ...]
    base: int | None
    offset: int
    depth: int | None
    parameters: Parameters
    keys: Keys

    def split(self, operator: Operator) -> tuple[Input | None, tuple[Input, ...]]:
        """The base, where the operator takes one, and the sources that are merged."""
        if not operator.takes_base:
            return None, self.inputs
        base = next((i for i in self.inputs if i.model == self.base), None)
        if operator.base_is_source:
            return base, self.inputs
        return base, tuple(i for i in self.inputs if i.model != self.base)


def references(recipe: Recipe) -> dict[str, Keys]:
    """Every model reference that is merged, in the recipe's order, and where it stands first."""
    found: dict[str, Keys] = {}
    for i, entry in enumerate(recipe.models or ()):
        found.setdefault(entry.model, ("models", i, "model"))
    for i, part in enumerate(recipe.slices or ()):
        for j, source in enumerate(part.sources):
            found.setdefault(source.model, ("slices", i, "sources", j, "model"))
        if part.base_model is not None:
            found.setdefault(part.base_model, ("slices", i, "base_model"))
    if recipe.base_model is not None:
        found.setdefault(recipe.base_model, ("base_model",))
    return found


def output_slices(
    recipe: Recipe, document: Document, operator: Operator, index: dict[str, int], layers: Sequence[Layers]
) -> tuple[Slice, ...]:
    """index: the model of each reference. layers: the stacks of each model.

    Raises InputError for a base that is missing, too few or too many sources, and layer ranges that do not exist
    or differ.
    """
    base = None if recipe.base_model is None else index[recipe.base_model]
    if recipe.models is not None:
        found = [_all_layers(recipe.models, index, base)]
    else:
        found, offset = [], 0
        for i, part in enumerate(recipe.slices or ()):
            own = base if part.base_model is None else index[part.base_model]
            found.append(_slice(part, document, index, layers, own, offset, ("slices", i)))
            offset += found[-1].depth or 0
    for each in found:
        _require_sources(document, operator, each)
    return tuple(found)


def _all_layers(models: Sequence[schema.Input], index: dict[str, int], base: int | None) -> Slice:
    inputs = [Input(index[entry.model], 0, entry.parameters, ("models", i)) for i, entry in enumerate(models)]
    if base is not None and all(entry.model != base for entry in inputs):
        inputs.append(Input(base, 0, {}, ("base_model",)))
    return Slice(tuple(inputs), base, 0, None, {}, ("models",))


def _slice(
    part: schema.Slice,
    document: Document,
    index: dict[str, int],
    layers: Sequence[Layers],
    base: int | None,
    offset: int,
    keys: Keys,
) -> Slice:
    inputs = []
    first, stop = part.sources[0].layer_range
    depth = stop - first
    for i, source in enumerate(part.sources):
        at: Keys = (*keys, "sources", i)
        first, stop = source.layer_range
        model = index[source.model]
        _require_layers(document, (*at, "layer_range"), source.model, layers[model], stop)
        if stop - first != depth:
            raise document.error((*at, "layer_range"), f"has {stop - first} layers, the first source has {depth}")
        inputs.append(Input(model, first, source.parameters, at))
    return Slice(tuple(inputs), base, offset, depth, part.parameters, keys)


def _require_layers(document: Document, keys: Keys, model: str, layers: Layers, stop: int) -> None:
    if len(layers.stacks) != 1:
        what = f"has several stacks of layers ({', '.join(layers.stacks)})" if layers.stacks else "has no layers"
        raise document.error(keys, f"{model} {what}; merge it with models instead of slices")
    depth = next(iter(layers.stacks.values()))
    if stop > depth:
        raise document.error(keys, f"ends at layer {stop}, but {model} has {depth}")


def _require_sources(document: Document, operator: Operator, part: Slice) -> None:
    keys = () if part.keys == ("models",) else part.keys
    name = operator.name
    base, sources = part.split(operator)
    if operator.needs_base and part.base is None:
        raise document.error(keys, f"{name} needs the key 'base_model'")
    if operator.takes_base and part.base is not None and base is None:
        raise document.error(
            (*keys, "sources"), f"{name} needs the base model among the sources; add it with its layer_range"
        )
    low, high = operator.min_sources, operator.max_sources
    if len(sources) < low or (high is not None and len(sources) > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        besides = " besides the base" if base is not None and not operator.base_is_source else ""
        raise document.error(
            part.keys, f"{name} merges {wanted} model{'s' * (wanted[-1] != '1')}{besides}, not {len(sources)}"
        )
