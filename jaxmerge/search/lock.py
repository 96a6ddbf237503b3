"""One process at a time in a run's folder."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmerge.errors import InputError

# A holder on another host, whose end nobody here can see, touches the file this often; silence means it is gone.
BEAT = 15.0
SILENCE = 90.0


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock for as long as the block runs. The system lets go of it if the process dies.

    Raises InputError naming the host and process that hold it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _held(file) from None
        holder = _holder(file)
        elsewhere = holder.get("host") not in (None, socket.gethostname())
        # Not every network file system hands a lock on to other hosts.
        if elsewhere and time.time() - file.stat().st_mtime < SILENCE:
            raise _held(file)
        stream.truncate(0)
        stream.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.ctime()}))
        stream.flush()
        done = threading.Event()
        beat = threading.Thread(target=_beat, args=(file, done), daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()
            stream.truncate(0)


def _beat(file: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(file)


def _holder(file: Path) -> dict[str, object]:
    try:
        holder = json.loads(file.read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _held(file: Path) -> InputError:
    holder = _holder(file)
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} (since {holder.get('since', '?')})"
    return InputError(f"{file.parent.parent}: {who} is at work in it; wait for it to end, or stop it")
