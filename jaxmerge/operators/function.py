"""A user's own function as an operator."""

from collections.abc import Callable
from inspect import Parameter as Argument
from inspect import signature
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator, Parameter, Params, Stats, Tile

PER_SOURCE = ("list", "tuple", "Sequence", "Array")


def from_function(function: Callable[..., Any], name: str) -> Operator:
    """The operator of a plain function `f(sources, ...)` or `f(base, sources, ...)` of whole float32 tensors.

    sources: the K tensors, a tuple; base: that of the declared base model. Every further argument is a parameter, a
    number for the whole merge, or `[K]` where it is annotated as an array, list, tuple or sequence; its default, if
    any, is the parameter's. The function is traced by jax.jit and returns an array of the tensors' shape.

    Raises InputError where the signature does not fit.
    """
    try:
        arguments = list(signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise InputError(f"operator {name!r}: it has no signature that can be read") from error
    needs_base = bool(arguments) and arguments[0].name == "base"
    leading = ["base", "sources"] if needs_base else ["sources"]
    if [argument.name for argument in arguments[: len(leading)]] != leading:
        raise InputError(f"operator {name!r}: its first arguments must be `sources`, or `base` and `sources`")
    parameters = tuple(parameter_of(argument, name) for argument in arguments[len(leading) :])

    def apply(tile: Tile, stats: Stats, params: Params) -> Array:
        tensors = (tile.base, tile.sources) if needs_base else (tile.sources,)
        merged = jnp.asarray(function(*tensors, **{p.name: params[p.name] for p in parameters}), jnp.float32)
        if merged.shape != tile.sources[0].shape:
            raise InputError(f"operator {name!r} made {merged.shape} of tensors of shape {tile.sources[0].shape}")
        return merged

    summary = (function.__doc__ or "").strip().split("\n")[0]
    return Operator(name, summary, apply, parameters, needs_base=needs_base, scope="tensor")


def parameter_of(argument: Argument, operator: str) -> Parameter:
    if argument.kind in (Argument.VAR_POSITIONAL, Argument.VAR_KEYWORD, Argument.POSITIONAL_ONLY):
        raise InputError(f"operator {operator!r}: {argument} cannot be a parameter; give it a name of its own")
    default = None if argument.default is Argument.empty else argument.default
    if default is not None and not isinstance(default, (bool, int, float)):
        raise InputError(f"operator {operator!r}: the default of {argument.name!r} must be a number")
    per_source = any(kind in str(argument.annotation) for kind in PER_SOURCE)
    kind = "flag" if isinstance(default, bool) else "number"
    return Parameter(argument.name, f"see {operator}", default, kind=kind, per_source=per_source)  # type: ignore[arg-type]
