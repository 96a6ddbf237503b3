"""`runtime.compression`: candidates of a search over compressed task vectors, and what such a bank needs."""

from dataclasses import replace

from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator
from jaxmerge.population.compressed import compressed_bytes, is_compressed
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.forward import divided
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.sources import Models


def require_compressible(config: EvolveConfig) -> None:
    """Raises InputError where a bank is to be compressed and cannot be."""
    kind = config.runtime.compression
    if kind is None:
        return
    if config.space.kind != "parameter":
        why: str | None = f"needs space.kind parameter, not {config.space.kind}"
    else:
        why = _refusal(config, config.operator)
    if why is not None:
        raise InputError(f"runtime.compression: {kind}: {why}; remove it")


def _refusal(config: EvolveConfig, operator: Operator) -> str | None:
    if not operator.takes_base or config.base is None:
        return f"{operator.name} merges no task vectors" + " here: there is no base" * operator.takes_base
    if operator.element_bytes(len(config.models)):
        return f"{operator.name} keeps something for each element of its sources, which would be larger than they are"
    if config.runtime.compression == "bit" and operator.coefficients is None:
        return f"{operator.name} looks at single elements, of which a bit does not say how large they are; write int8"
    if config.runtime.forward == "batched":
        return "runtime.forward is batched, and this is for merged"
    return divided(config)


def compressed_needs(needs: Needs, models: Models, config: EvolveConfig) -> Needs:
    """What the same search needs over a compressed bank, if it has one."""
    kind, base = config.runtime.compression, models.base
    if kind is None:
        return needs
    assert base is not None
    bank, table = sum(info.nbytes for info in base.tensors.values()), models.table
    for parameter in table:
        if is_compressed(parameter):
            bank += compressed_bytes(table.shape(parameter), len(models.experts), kind)
        else:
            names = parameter.names(table.num_layers)
            bank += sum(expert.tensors[name].nbytes for expert in models.experts.values() for name in names)
    return replace(needs, bank=bank, sources=f"{needs.sources} as {kind}")
