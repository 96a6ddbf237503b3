"""The operators as a table for people."""

from jaxmerge.operators.interface import Operator, Parameter
from jaxmerge.operators.registry import OPERATORS


def default(parameter: Parameter) -> str:
    value = parameter.default
    if value is None:
        return "required"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def bounds(parameter: Parameter) -> str:
    if parameter.low is None and parameter.high is None:
        return ""
    low = "-inf" if parameter.low is None else f"{parameter.low:g}"
    high = "inf" if parameter.high is None else f"{parameter.high:g}"
    return f", in [{low}, {high}]"


def described(parameter: Parameter) -> str:
    owner = " per model" if parameter.per_source else ""
    return f"`{parameter.name}`{owner} ({default(parameter)}{bounds(parameter)})"


def sources(operator: Operator) -> str:
    low, high = operator.min_sources, operator.max_sources
    count = f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}"
    return (
        f"base + {count}" if operator.needs_base else f"{count}, optional base" if operator.optional_base else count
    )


def table() -> str:
    """A Markdown table of every operator of ours: what it does, how many models it takes, its parameters with
    defaults.
    """
    lines = ["| operator | what it does | models | parameters (default) | source |", "|---|---|---|---|---|"]
    for operator in OPERATORS.values():
        parameters = ", ".join(map(described, operator.parameters))
        cells = (f"`{operator.name}`", operator.summary, sources(operator), parameters, operator.paper)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
