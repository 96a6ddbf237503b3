"""A runner that answers the same question once: objectives over the same prompts share one generation."""

from collections.abc import Callable, Sequence

import numpy as np
import xxhash

from jaxmerge.objectives.interface import Batch, Runner


class Once:
    """Asks `runner` for each batch once, by content, as long as it lives."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: dict[tuple[object, ...], np.ndarray] = {}

    def ask_together(self, batches: Sequence[Batch]) -> None:
        """The likelihoods that will be asked for, at once, of a runner that wants to know of all of them."""
        together = getattr(self._runner, "likelihoods", None)
        new = {("likelihood", _digest(batch)): batch for batch in batches}
        if together is not None and len(new) > 1:
            self._known |= dict(zip(new, together(list(new.values())), strict=True))

    @property
    def size(self) -> int:
        return self._runner.size

    def likelihood(self, batch: Batch) -> np.ndarray:
        return self._once(("likelihood", _digest(batch)), lambda: self._runner.likelihood(batch))

    def entropy(self, batch: Batch) -> np.ndarray:
        return self._once(("entropy", _digest(batch)), lambda: self._runner.entropy(batch))

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        asked = ("generate", _digest(batch), max_new_tokens, stop_ids)
        return self._once(asked, lambda: self._runner.generate(batch, max_new_tokens, stop_ids))

    def _once(self, asked: tuple[object, ...], answer: Callable[[], np.ndarray]) -> np.ndarray:
        if asked not in self._known:
            self._known[asked] = np.asarray(answer())
        return self._known[asked]


def _digest(batch: Batch) -> bytes:
    content = xxhash.xxh3_128()
    for bucket in batch.buckets:
        for array in (bucket.tokens, bucket.valid, bucket.counted, bucket.index):
            content.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return content.digest()
