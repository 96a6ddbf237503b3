"""What matters: how fast the examples' likelihoods change with each of the winner's parameters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxmerge.report.genomes import space_of
from jaxmerge.report.run_data import RecipeTable


def sensitivity(
    summary: Mapping[str, Any] | None, config: Mapping[str, Any], table: RecipeTable | None
) -> RecipeTable | None:
    """Searched parameters as a recipe's table, each with its sensitivity in place of its value; None where the search
    had no Jacobian."""
    genes = ((summary or {}).get("screening") or {}).get("sensitivity")
    space = space_of(config.get("space") or {}, table) if genes and table else None
    if space is None or table is None or not genes or space.dimension != len(genes):
        return None
    rows = {
        name: tuple(map(tuple, values.reshape(len(table.groups), -1).tolist()))
        for name, values in space.by_parameter(np.array(genes, np.float64)).items()
    }
    return replace(table, parameters=rows)
