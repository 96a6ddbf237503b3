"""The recipe's `models` or `slices` as one list of output slices, with models as indices and layer ranges checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jaxmerge.documents import Document, Keys
from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator
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
    parameters, module: what the recipe sets for the slice, and for the module it is of.
    """

    inputs: tuple[Input, ...]
    base: int | None
    offset: int
    depth: int | None
    parameters: Parameters
    keys: Keys
    module: Parameters = field(default_factory=dict)

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
    for keys, body in recipe.bodies.values():
        for i, entry in enumerate(body.models or ()):
            found.setdefault(entry.model, (*keys, "models", i, "model"))
        for i, part in enumerate(body.slices or ()):
            for j, source in enumerate(part.sources):
                found.setdefault(source.model, (*keys, "slices", i, "sources", j, "model"))
            if part.base_model is not None:
                found.setdefault(part.base_model, (*keys, "slices", i, "base_model"))
    if recipe.base_model is not None:
        found.setdefault(recipe.base_model, ("base_model",))
    return found


def output_slices(recipe: Recipe, name: str | None, index: Mapping[str, int]) -> tuple[Slice, ...]:
    """The slices of a module, or of the whole recipe. index: the model of each reference."""
    keys, body = recipe.bodies[name]
    module = {} if body is recipe else body.parameters
    base = None if recipe.base_model is None else index[recipe.base_model]
    if body.models is not None:
        inputs = [
            Input(index[entry.model], 0, entry.parameters, (*keys, "models", i)) for i, entry in enumerate(body.models)
        ]
        if base is not None and all(entry.model != base for entry in inputs):
            inputs.append(Input(base, 0, {}, ("base_model",)))
        return (Slice(tuple(inputs), base, 0, None, {}, (*keys, "models"), module),)
    found, offset = [], 0
    for i, part in enumerate(body.slices or ()):
        at: Keys = (*keys, "slices", i)
        own = base if part.base_model is None else index[part.base_model]
        inputs = [
            Input(index[source.model], source.layer_range[0], source.parameters, (*at, "sources", j))
            for j, source in enumerate(part.sources)
        ]
        start, stop = part.sources[0].layer_range
        found.append(Slice(tuple(inputs), own, offset, stop - start, part.parameters, at, module))
        offset += stop - start
    return tuple(found)


def range_mistakes(
    recipe: Recipe, name: str | None, document: Document, index: Mapping[str, int], layers: Sequence[Layers]
) -> Iterator[InputError]:
    """Layer ranges that do not exist. layers: the stacks of each model."""
    keys, body = recipe.bodies[name]
    for i, part in enumerate(body.slices or ()):
        for j, source in enumerate(part.sources):
            at: Keys = (*keys, "slices", i, "sources", j, "layer_range")
            if what := _lacking(source.model, layers[index[source.model]], source.layer_range[1]):
                yield document.error(at, what)


def _lacking(model: str, layers: Layers, stop: int) -> str | None:
    if len(layers.stacks) != 1:
        several = f"has several stacks of layers ({', '.join(layers.stacks)}); merge them as modules"
        return f"{model} {several if layers.stacks else 'has no layers; merge it'} with models instead of slices"
    depth = next(iter(layers.stacks.values()))
    return f"ends at layer {stop}, but {model} has {depth}" if stop > depth else None


def length_mistakes(recipe: Recipe, name: str | None, document: Document) -> Iterator[InputError]:
    """Sources of a slice that have not equally many layers."""
    keys, body = recipe.bodies[name]
    for i, part in enumerate(body.slices or ()):
        first, *others = (source.layer_range[1] - source.layer_range[0] for source in part.sources)
        for j, length in enumerate(others, 1):
            if length != first:
                at = (*keys, "slices", i, "sources", j, "layer_range")
                yield document.error(at, f"has {length} layers, the first source has {first}")


def source_mistakes(document: Document, operator: Operator, part: Slice) -> Iterator[InputError]:
    """A base that is missing, too few or too many sources."""
    keys = () if part.depth is None else part.keys
    name = operator.name
    base, sources = part.split(operator)
    if operator.needs_base and part.base is None:
        yield document.error(keys, f"{name} needs the key 'base_model'")
    elif operator.takes_base and part.base is not None and base is None:
        yield document.error(
            (*keys, "sources"), f"{name} needs the base model among the sources; add it with its layer_range"
        )
    low, high = operator.min_sources, operator.max_sources
    if len(sources) < low or (high is not None and len(sources) > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        besides = " besides the base" if base is not None and not operator.base_is_source else ""
        yield document.error(
            part.keys, f"{name} merges {wanted} model{'s' * (wanted[-1] != '1')}{besides}, not {len(sources)}"
        )
