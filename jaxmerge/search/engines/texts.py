"""What models wrote, example by example, as a run keeps it: some of the examples, their texts cut short."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Objective, Scored

# With these a record is at most 240 kB of letters for each candidate and objective, whatever the data.
KEPT = 200
LONGEST = 400


@dataclass(frozen=True)
class Texts:
    """prompts: `[N]`. answers: the reference answers, outputs: what the model wrote or chose, `[N]` or None."""

    prompts: list[str]
    answers: list[str] | None = None
    outputs: list[str] | None = None

    def record(self) -> dict[str, Any]:
        """Plain values of at most `KEPT` examples, evenly spread, the same for every model. places: which they are."""
        count = len(self.prompts)
        places = np.unique(np.linspace(0, count - 1, min(count, KEPT)).round().astype(int)).tolist()
        kept: dict[str, Any] = {"places": places, "prompts": [_end(self.prompts[i]) for i in places]}
        for name, texts in (("answers", self.answers), ("outputs", self.outputs)):
            if texts is not None:
                kept[name] = [_beginning(texts[i]) for i in places]
        return kept


def texts_of(objective: Objective, split: str, scored: Scored) -> Texts | None:
    """The texts of the runner's first model on all of a split; None where the objective has none."""
    if scored.prompts is None:
        return None
    answers = objective.split(split).answers if isinstance(objective, PreparedObjective) else None
    return Texts(scored.prompts, answers, scored.outputs[0] if scored.outputs else None)


def _beginning(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _end(text: str) -> str:
    """Of a prompt the question stands last, after what it shares with the others."""
    return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]
