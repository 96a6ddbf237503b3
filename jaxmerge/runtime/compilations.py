"""Counts XLA compilations, so that a run can say that a search compiled once."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """Number of programs compiled so far, and the seconds they took."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _EVENT:
            self.count += 1
            self.seconds += duration_secs


@contextmanager
def counted() -> Iterator[Compilations]:
    """Counts the compilations made inside the block."""
    compilations = Compilations()
    jax.monitoring.register_event_duration_secs_listener(compilations._heard)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(compilations._heard)
