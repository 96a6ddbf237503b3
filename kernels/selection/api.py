"""Selection by the implementation that is asked for."""

from typing import Any

from jaxmerge.kernels import choice
from jaxmerge.kernels.selection.reference import Places

__all__ = ["Places", "smallest_kept"]


def smallest_kept(magnitudes: Any, counts: Any, *, implementation: str | None = None) -> Any:
    """The smallest of the `counts[g]` largest magnitudes, float32 `[G]`: exact, whatever implementation finds it.

    magnitudes: float32 of any shape, not negative, no NaN; counts: integers `[G]` in [1, n]. implementation: see
    `choice`; the reference works on the host in NumPy, the kernels in jitted functions as well.
    """
    return choice.run("selection.smallest_kept", implementation, magnitudes, counts)
