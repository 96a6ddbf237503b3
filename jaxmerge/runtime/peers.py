"""What the processes of one run have to say to each other besides arrays, which travel by jax's collectives.

Scores to record, a request to stop, an error: little, and by way of the key-value store that `jax.distributed` keeps in
process 0.
"""

import json
import os
import pickle
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jaxmerge.errors import CheckpointError, InputError, Interrupted, JaxmergeError

Value = TypeVar("Value")

# A peer that says nothing for so long is lost; a thread of Python may be held up for some seconds.
SILENCE_SECONDS = "JAXMERGE_SILENCE_SECONDS"
SILENCE = 30.0
# Bytes of one message of the store.
PART = 1 << 20
END, STOP = "jaxmerge/end", "jaxmerge/stop"
# Seconds that a process has to end by itself when the run has failed elsewhere.
GRACE = 10.0


class Peers:
    """The processes of this run. number: which this is; count: how many there are."""

    def __init__(self, store: Any, number: int, count: int) -> None:
        self.number, self.count = number, count
        self.host, self.silence = socket.gethostname(), silence()
        self.progress = time.monotonic()  # when this process last had something done
        self.longest = 0.0  # seconds that it ever took to have something done
        self.stop_wanted = False  # here, by a signal
        self.left = False
        self.scratch: Path | None = None  # a folder of this process's own
        self.lost: set[int] = set()  # who is not waited for
        self._stopping = False  # agreed by all
        self._store = store
        self._messages = 0  # that this process has said or read
        self._dropped = 0
        self._set(f"jaxmerge/host/{number}", self.host)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def name(self, number: int) -> str:
        host = self._get(f"jaxmerge/host/{number}") or "a host that never answered"
        return f"process {number} on {host}"

    # Agreeing.

    def same(self, value: Callable[[], Value]) -> Value:
        """What process 0 makes of it, in every process. Called by all, in the same order.

        With it goes whether all shall stop before the next step."""
        key = f"jaxmerge/message/{self._messages}"
        if self.leads:
            found = value()
            self._stopping = self.stop_wanted or self._get(STOP) is not None
            raw = pickle.dumps((found, self._stopping))
            parts = range(0, len(raw), PART)
            for place, start in enumerate(parts):
                self._store.key_value_set_bytes(f"{key}/{place}", raw[start : start + PART])
            self._set(f"{key}/parts", str(len(parts)))
        else:
            count = int(self._wait(f"{key}/parts"))
            raw = b"".join(self._store.blocking_key_value_get_bytes(f"{key}/{i}", 60_000) for i in range(count))
            found, self._stopping = pickle.loads(raw)
        self._messages += 1
        self.step()
        return found

    def require(self, topic: str, check: Callable[[], None]) -> None:
        """Run a check in every process; if it fails in one, all raise its error."""
        error: JaxmergeError | None = None
        try:
            check()
        except JaxmergeError as found:
            error = found
        self._set(f"jaxmerge/check/{topic}/{self.number}", _written(error, self._me) if error else "")
        for number in range(self.count):
            told = self._wait(f"jaxmerge/check/{topic}/{number}")
            if told and not error:
                error = _read(told)
        if error:
            raise error

    def step(self) -> None:
        """Something is done: the watchdog begins anew."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.progress)
        self.progress = now

    def check(self) -> None:
        """Raises KeyboardInterrupt where all have agreed to stop here."""
        if self._stopping:
            raise KeyboardInterrupt

    # Ending.

    def ended(self) -> JaxmergeError | None:
        """The error that ended the run in some process."""
        told = self._get(END)
        return _read(told) if told else None

    def end(self, error: BaseException) -> None:
        """Tell the others that the run has ended; the first to say so is heard."""
        if self._get(END) is None:
            self._set(END, _written(error, self._me))

    def finish(self) -> None:
        """Wait until process 0 has written everything. Called by all when the run is done."""
        if self.leads:
            self._set("jaxmerge/done", "")
        else:
            self._wait("jaxmerge/done")
        self.left = True

    def wait_for_loss(self) -> None:
        """Give the watch the time to find a peer that is gone; it ends this process then."""
        time.sleep(self.silence + 2 * GRACE)

    def leave(self, code: int) -> None:
        """End this process after an error; process 0, which keeps the store, goes last."""
        try:
            self._set(f"jaxmerge/left/{self.number}", "")
            until = time.monotonic() + GRACE + 5
            while self.leads and time.monotonic() < until:
                if all(i in self.lost or self._get(f"jaxmerge/left/{i}") is not None for i in range(self.count)):
                    time.sleep(0.5)  # they have said so and are about to
                    break
                time.sleep(0.2)
        finally:
            self.clear()
            exit_now(code)

    def clear(self) -> None:
        """Leave nothing behind."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    # The store.

    @property
    def _me(self) -> str:
        return f"process {self.number} on {self.host}"

    def beat(self, count: int) -> dict[int, str]:
        """Say that this process lives, and hear which others do."""
        self._set(f"jaxmerge/beat/{self.number}", f"{count} {self._messages}")
        beats = self._store.key_value_dir_get("jaxmerge/beat/")
        if self.leads and len(beats) == self.count:
            # What all have read is dropped.
            read = min(int(value.split()[1]) for _, value in beats)
            for number in range(self._dropped, read):
                self._store.key_value_delete(f"jaxmerge/message/{number}/")
            self._dropped = max(self._dropped, read)
        return {int(key.rsplit("/", 1)[1]): value for key, value in beats}

    def ask_to_stop(self) -> None:
        self._set(STOP, "")

    def _set(self, key: str, value: str) -> None:
        self._store.key_value_set(key, value, allow_overwrite=True)

    def _get(self, key: str) -> str | None:
        try:
            return str(self._store.key_value_try_get(key))
        except Exception as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def _wait(self, key: str) -> str:
        """A value that another process will set, unless the run ends."""
        while True:
            try:
                return str(self._store.blocking_key_value_get(key, 1000))
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            if error_elsewhere := self.ended():
                raise error_elsewhere


def silence() -> float:
    """Seconds after which a peer that says nothing is lost."""
    return float(os.environ.get(SILENCE_SECONDS, SILENCE))


def exit_now(code: int) -> None:
    """Without waiting for anybody: jax would wait at its end for processes that are no more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _written(error: BaseException, who: str) -> str:
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("interrupted; the same command goes on")
    code = error.exit_code if isinstance(error, JaxmergeError) else 1
    message = str(error) if isinstance(error, JaxmergeError) else f"{type(error).__name__}: {error}"
    return json.dumps([code, message if message.startswith("process ") else f"{who}: {message}"])


def _read(told: str) -> JaxmergeError:
    code, message = json.loads(told)
    kinds = {kind.exit_code: kind for kind in (InputError, CheckpointError, Interrupted)}
    return kinds.get(code, JaxmergeError)(message)
