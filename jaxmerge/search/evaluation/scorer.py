"""Which of the search examples candidates are scored on: `search.evaluation`."""

from collections.abc import Sequence

from jaxmerge.errors import InputError
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.evaluation.blocks import Blocks
from jaxmerge.search.evaluation.irt_score import IrtScore
from jaxmerge.search.evaluation.racing import Examples
from jaxmerge.search.evaluation.racing_score import RacingScore
from jaxmerge.search.history import History
from jaxmerge.search.loop import Score


def scorer(
    config: EvolveConfig, engine: Engine, history: History, stage: str, answered: Sequence[Examples] = ()
) -> Score:
    """What scores a stage's generations. Cheap kinds read the history, which is to grow as they go on.

    answered: the scores of other models on all search examples."""
    kind = config.search.evaluation.kind
    if kind == "racing":
        return RacingScore(engine, config, history, stage)
    if kind == "irt":
        return IrtScore(engine, config, history, stage, answered)
    return lambda genomes, generation: engine.evaluate(genomes, draw=generation if engine.sampled else None)


def require_evaluable(config: EvolveConfig, engine: Engine) -> None:
    """Raises InputError where the search data is too small to be dealt into blocks, or an objective is not for it."""
    wanted = config.search.evaluation
    if wanted.kind == "full":
        return
    for objective in config.objectives:
        if objective.kind == "python":
            raise InputError(
                f"search.evaluation: '{objective.name}' is of kind python, which scores all outputs at once; use kind "
                "generate for it, or evaluation kind full"
            )
        if wanted.kind == "irt" and objective.kind in ("likelihood", "entropy"):
            raise InputError(
                f"search.evaluation: irt needs scores from 0 to 1, and '{objective.name}' is of kind "
                f"{objective.kind}; use kind racing"
            )
        if wanted.kind == "irt" and objective.sample is not None:
            raise InputError(
                f"search.evaluation: irt chooses the examples itself; remove 'sample' from '{objective.name}'"
            )
    blocks = Blocks.of(config, engine)
    if blocks.first >= blocks.count:
        key = "first" if wanted.kind == "racing" else "subset"
        raise InputError(
            f"search.evaluation.{key}: {getattr(wanted, key)} examples leave nothing to save of "
            f"{min(blocks.sizes.values())} search examples; lower it or use kind full"
        )
