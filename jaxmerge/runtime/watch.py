"""A thread that notices what a process stuck in a collective cannot: that a peer is gone, or that nothing moves.

A collective waits for all. A peer that was killed or hangs would keep it waiting, so the process is ended from here,
with the exit code that asks for another start.
"""

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from jaxmerge.errors import Interrupted
from jaxmerge.runtime.peers import Peers

BEAT = 1.0
# Seconds that the main thread has to end by itself when the run has ended elsewhere; in a collective it cannot.
HEARD = 5.0
# A process that has nothing done for so long, and for ten times as long as anything took before, is stuck.
WATCHDOG_SECONDS = "JAXMERGE_WATCHDOG_SECONDS"
WATCHDOG = 1800.0
AGAIN = Interrupted.exit_code
GOES_ON = "the same command goes on"


def watch(peers: Peers, coordinator: str) -> None:
    """Begin to watch; ends with the process."""

    def lost() -> tuple[int, str] | None:
        if answers(coordinator, 0):
            return None
        peers.clear()
        return AGAIN, f"process 0 at {coordinator} was lost; {GOES_ON}"

    on_abort(lost)
    threading.Thread(target=_watch, args=(peers,), daemon=True, name="watch").start()


def request_stop(peers: Peers) -> None:
    """From now on SIGTERM and SIGINT ask all processes to stop, together, before their next step."""

    def ask(signum: int, frame: FrameType | None) -> None:
        peers.stop_wanted = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, ask)


def _watch(peers: Peers) -> None:
    silence = peers.silence
    given = os.environ.get(WATCHDOG_SECONDS)
    heard: dict[int, tuple[str, float]] = {i: ("", time.monotonic()) for i in range(peers.count)}
    count, asked, ending = 0, False, 0.0
    while not peers.left:
        time.sleep(BEAT)
        count += 1
        try:
            beats = peers.beat(count)
            if peers.stop_wanted and not asked:
                peers.ask_to_stop()
                asked = True
            ended = peers.ended()
        except Exception:
            if not peers.left:
                _end(peers, _lost(peers, 0), tell=False)
            return
        now = time.monotonic()
        if ended:
            ending = ending or now
            if now - ending > HEARD:
                _end(peers, str(ended), code=ended.exit_code, tell=False)
            continue
        for number, beat in beats.items():
            if beat != heard[number][0]:
                heard[number] = (beat, now)
        silent = [number for number, (_, since) in heard.items() if now - since > silence and number != peers.number]
        if silent:
            peers.lost.update(silent)
            _end(peers, _lost(peers, silent[0]))
        limit = float(given) if given else max(WATCHDOG, 10 * peers.longest)
        if now - peers.progress > limit:
            _end(peers, f"{peers.name(peers.number)} is stuck: nothing was done for {limit:.0f} s")


def _lost(peers: Peers, number: int) -> str:
    try:
        name = peers.name(number)
    except Exception:
        name = f"process {number}"  # which keeps the names
    return f"{name} was lost"


def _end(peers: Peers, message: str, *, code: int = AGAIN, tell: bool = True) -> None:
    """Say why, and end; where something hangs, say where every thread stands."""
    if code == AGAIN:
        faulthandler.dump_traceback(all_threads=True)
        message += f"; {GOES_ON}"
    print(f"jaxmerge: {message}", file=sys.stderr, flush=True)
    if tell:
        peers.end(Interrupted(message))
    try:
        peers.leave(code)
    finally:
        peers.clear()
        os._exit(code)


def on_abort(explain: Callable[[], tuple[int, str] | None]) -> None:
    """What to end with where jax aborts this process: exit code and message, or None for an abort like any other.

    jax gives up so where processes do not find each other, and where process 0 is gone."""

    def aborted(signum: int) -> None:
        found = explain()
        if found is None:
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            return
        os.write(2, f"jaxmerge: {found[1]}\n".encode())
        os._exit(found[0])

    # A handler of Python's would wait for the main thread, which hangs in jax.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _handlers.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def answers(address: str, seconds: float) -> bool:
    """Whether something listens at HOST:PORT within so many seconds."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=3).close()
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)


# What C calls must not be collected.
_handlers: list[object] = []
