"""Where a config's search ends."""

from dataclasses import replace

from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.costs import JACOBIAN
from jaxmerge.search.loop import Limit


def limit_of(config: EvolveConfig) -> Limit:
    """As generations and budget say."""
    budget, screening = config.search.budget, config.search.screening
    seconds = None if budget.hours is None else budget.hours * 3600
    limit = Limit(config.search.last_generation, budget.candidates, seconds)
    return limit if screening is None else replace(limit, extra=JACOBIAN, every=screening.refresh)
