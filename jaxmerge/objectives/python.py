"""kind: python. A user's function over all completions of a split at once."""

import numpy as np

from jaxmerge.objectives.generate import Generate, MetricError
from jaxmerge.objectives.split import Selection


class Python(Generate):
    """Like `generate`, with a metric `(outputs, examples) -> scores`: the texts of one model and the fields
    of their lines, in order, to one number each, higher being better."""

    def compare(self, outputs: list[str], selection: Selection) -> np.ndarray:
        assert self._function is not None
        examples = [example.fields for example in selection.examples]
        try:
            scores = np.asarray(self._function(outputs, examples), np.float32)
        except Exception as error:
            raise MetricError(f"{self.config.metric} raised {type(error).__name__}: {error}") from error
        if scores.shape != (len(outputs),):
            raise MetricError(f"{self.config.metric} gave shape {scores.shape} for {len(outputs)} outputs")
        return scores
