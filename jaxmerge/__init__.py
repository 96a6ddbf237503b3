"""jaxmerge: merges models and evolves the merge.

Importing the package loads nothing heavy; each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmerge.evolution import evolve
    from jaxmerge.loading import load
    from jaxmerge.merging.difference import diff
    from jaxmerge.merging.experts.mixture import moe
    from jaxmerge.merging.export import export
    from jaxmerge.merging.extraction import extract_lora
    from jaxmerge.merging.inspection import inspect
    from jaxmerge.merging.merge import merge
    from jaxmerge.merging.transplant import transplant_tokens
    from jaxmerge.models.module import CausalLM as Model
    from jaxmerge.objectives.evaluation import evaluate
    from jaxmerge.search.run import Run

__version__ = "0.1.0"

_HOMES = {
    "Model": "jaxmerge.models.module:CausalLM",
    "Run": "jaxmerge.search.run:Run",
    "diff": "jaxmerge.merging.difference:diff",
    "evaluate": "jaxmerge.objectives.evaluation:evaluate",
    "evolve": "jaxmerge.evolution:evolve",
    "export": "jaxmerge.merging.export:export",
    "extract_lora": "jaxmerge.merging.extraction:extract_lora",
    "inspect": "jaxmerge.merging.inspection:inspect",
    "load": "jaxmerge.loading:load",
    "merge": "jaxmerge.merging.merge:merge",
    "moe": "jaxmerge.merging.experts.mixture:moe",
    "transplant_tokens": "jaxmerge.merging.transplant:transplant_tokens",
}

__all__ = [
    "Model",
    "Run",
    "__version__",
    "diff",
    "evaluate",
    "evolve",
    "export",
    "extract_lora",
    "inspect",
    "load",
    "merge",
    "moe",
    "transplant_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxmerge' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
