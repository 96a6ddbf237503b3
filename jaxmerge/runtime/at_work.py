"""One process at a time in a folder of an object store, which has no locks.

Whoever works there rewrites a mark every few seconds. Clocks of different hosts are not compared: a mark that stays the
same for long enough is that of a process that is gone.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jaxmerge.errors import InputError
from jaxmerge.runtime.object_store import ObjectStore

MARK = "at_work.json"
BEAT = 10.0
SILENCE = 40.0


@contextmanager
def at_work(store: ObjectStore, *, beat: float = BEAT, silence: float = SILENCE) -> Iterator[None]:
    """Mark the folder for as long as the block runs. beat, silence: seconds.

    Raises InputError naming host and process where another one works there; finding out takes up to `silence`."""
    _require_free(store, silence)
    done = threading.Event()
    mark = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.ctime()}

    def beats() -> None:
        count = 0
        while not done.wait(beat):
            count += 1
            with suppress(InputError):  # the next may reach it
                store.write(MARK, json.dumps(mark | {"beat": count}).encode())

    store.write(MARK, json.dumps(mark).encode())
    thread = threading.Thread(target=beats, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(InputError):  # it goes stale
            store.remove(MARK)


def _require_free(store: ObjectStore, silence: float) -> None:
    first = store.read(MARK)
    if first is None or _is_of_this_host_and_gone(first):
        return
    until = time.monotonic() + silence
    while time.monotonic() < until:
        time.sleep(silence / 40)
        now = store.read(MARK)
        if now is None:
            return
        if now != first:
            mark = _read(now)
            who = f"process {mark.get('pid', '?')} on {mark.get('host', '?')} (since {mark.get('since', '?')})"
            raise InputError(f"{store.url}: {who} is at work in it; wait for it to end, or stop it")


def _read(raw: bytes) -> dict[str, Any]:
    try:
        mark = json.loads(raw)
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_of_this_host_and_gone(raw: bytes) -> bool:
    mark = _read(raw)
    number = mark.get("pid")
    if mark.get("host") != socket.gethostname() or not isinstance(number, int):
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return number == os.getpid()  # a container that starts again has the same numbers
