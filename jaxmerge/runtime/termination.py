"""SIGTERM, which preemption sends, as an interruption like Ctrl-C; and neither is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# What each signal's handler is where the program has none of its own.
PLAIN = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@contextmanager
def termination_interrupts() -> Iterator[Callable[[], None]]:
    """Inside the block SIGTERM raises KeyboardInterrupt in the main thread, like SIGINT, unless the program has a
    handler of its own; elsewhere nothing changes.

    Gives a function that raises it again where a signal has come: Python drops what is raised in a destructor or
    another callback, so a signal that meets one would be lost.
    """
    came: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, plain in PLAIN.items() if in_main and signal.getsignal(number) == plain]
    before = {number: signal.signal(number, interrupt) for number in ours}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
