"""Signals that ask for an end."""

import os
import signal
from collections.abc import Iterator

import pytest

from jaxmerge.runtime.termination import PLAIN, termination_interrupts


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """As in a fresh process, whatever an earlier test has left behind."""
    before = {number: signal.signal(number, handler) for number, handler in PLAIN.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_interruption_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), termination_interrupts() as check:
        check()
        os.kill(os.getpid(), number)
        signal.pause()  # pragma: no cover - the signal is handled before
    assert signal.getsignal(number) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_meets_a_destructor_is_not_lost() -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            for _ in range(1000):  # the handler runs between two steps of Python
                pass

    with termination_interrupts() as check:
        dying = Dying()
        del dying  # Python says that it ignores the exception
        with pytest.raises(KeyboardInterrupt):
            check()


def test_a_handler_of_the_programs_own_stays() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with termination_interrupts() as check:
            signal.raise_signal(signal.SIGTERM)
            check()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
