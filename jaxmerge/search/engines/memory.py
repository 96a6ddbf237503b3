"""A candidate that was scored before is not run again.

Different genomes may be one candidate: indicators that include the same slots, scales of slots that are left out,
densities that round to one point of their table's grid. So results are kept by what a genome decodes to.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import xxhash

from jaxmerge.search.result import Result

# Results kept, of which each holds its examples' scores.
KEPT = 4096


def identities(values: Mapping[str, np.ndarray]) -> list[bytes]:
    """What tells candidates apart, a digest each. values: what they are made of, `[P, ...]` each."""
    count = len(next(iter(values.values())))
    digests = [xxhash.xxh3_128() for _ in range(count)]
    for name in sorted(values):
        for digest, value in zip(digests, values[name], strict=True):
            digest.update(np.ascontiguousarray(value).tobytes())
    return [digest.digest() for digest in digests]


class Memory:
    """Results by key, the latest `KEPT` of them."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Result] = {}

    def recall(self, keys: Sequence[Hashable], score: Callable[[list[int]], list[Result]]) -> list[Result]:
        """A result for each key. score: asked for the places of those that are not known, each key once. A result that
        was known comes with the seconds that it took then, so that a budget of hours ends when nothing new is asked."""
        places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._known}
        fresh = sorted(places.values())
        scored = dict(zip(fresh, score(fresh), strict=True)) if fresh else {}
        found = {keys[place]: result for place, result in scored.items()}
        known = self._known | found
        self._known = dict(list(known.items())[-KEPT:])
        return [known[key] for key in keys]
