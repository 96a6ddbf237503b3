"""Which of the search examples candidates are scored on: `search.evaluation`."""

from jaxmerge.errors import InputError
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.history import History
from jaxmerge.search.loop import Score
from jaxmerge.search.racing_score import Blocks, RacingScore


def scorer(config: EvolveConfig, engine: Engine, history: History, stage: str) -> Score:
    """What scores a stage's generations. Cheap kinds read the history, which is to grow as they go on."""
    if config.search.evaluation.kind == "racing":
        return RacingScore(engine, config, history, stage)
    return lambda genomes, generation: engine.evaluate(genomes, draw=generation if engine.sampled else None)


def require_evaluable(config: EvolveConfig, engine: Engine) -> None:
    """Raises InputError where the search data is too small to be dealt into blocks, or must be scored at once."""
    wanted = config.search.evaluation
    if wanted.kind == "full":
        return
    whole = next((objective.name for objective in config.objectives if objective.kind == "python"), None)
    if whole is not None:
        raise InputError(
            f"search.evaluation: '{whole}' is of kind python, which scores all outputs at once; use kind generate for "
            "it, or evaluation kind full"
        )
    blocks = Blocks.of(config, engine)
    if blocks.first >= blocks.count:
        raise InputError(
            f"search.evaluation.first: {wanted.first} examples and blocks of {wanted.block} leave nothing to save of "
            f"{min(blocks.sizes.values())} search examples; lower them or use kind full"
        )
