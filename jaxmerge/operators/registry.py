"""Operators by name: ours, those that other packages register, and a user's own.

Everything that lists or checks operators (YAML validation, help, search spaces, the README) reads this
registry.
"""

from importlib.metadata import entry_points

from jaxmerge.errors import InputError, unknown
from jaxmerge.operators import (
    arcee_fusion,
    breadcrumbs,
    breadcrumbs_ties,
    cabs,
    consensus_ta,
    dare_linear,
    dare_ties,
    della,
    della_linear,
    emr,
    iso_c,
    iso_cts,
    karcher,
    linear,
    model_stock,
    multislerp,
    nearswap,
    nuslerp,
    passthrough,
    pcb,
    ram,
    ramplus_tl,
    sce,
    slerp,
    tall_mask,
    task_arithmetic,
    ties,
    tsv,
    wudi,
)
from jaxmerge.operators.function import from_function
from jaxmerge.operators.interface import Operator
from jaxmerge.plugins import imported

MODULES = (
    linear,
    slerp,
    nuslerp,
    multislerp,
    karcher,
    task_arithmetic,
    ties,
    dare_linear,
    dare_ties,
    della_linear,
    della,
    breadcrumbs,
    breadcrumbs_ties,
    sce,
    model_stock,
    ram,
    ramplus_tl,
    nearswap,
    arcee_fusion,
    consensus_ta,
    tall_mask,
    emr,
    pcb,
    cabs,
    tsv,
    iso_c,
    iso_cts,
    wudi,
    passthrough,
)
OPERATORS: dict[str, Operator] = {module.OPERATOR.name: module.OPERATOR for module in MODULES}
GROUP = "jaxmerge.operators"


def operator(name: str) -> Operator:
    """The operator of a name: one of ours, `module:attribute`, or an entry point of the group `jaxmerge.operators`.

    What is referred to is an Operator or a plain function (see `function.from_function`). Raises InputError for a
    name that nothing answers to, and for anything else.
    """
    if name in OPERATORS:
        return OPERATORS[name]
    registered = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    reference = registered.get(name, name)
    if ":" not in reference:
        raise unknown("operator", name, [*OPERATORS, *registered])
    try:
        found = imported(reference)
    except InputError as error:
        raise InputError(f"operator {name!r}: {error}") from error
    if isinstance(found, Operator):
        return found
    if callable(found):
        return from_function(found, name)
    raise InputError(f"operator {name!r}: {reference!r} is neither an Operator nor a function")
