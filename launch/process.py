"""A process of this machine whose output is passed on line by line and whose last lines are kept."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TextIO

LAST = 20

_speaking = threading.Lock()


def say(line: str, stream: TextIO) -> None:
    """One whole line, whatever other threads have to say."""
    with _speaking:
        stream.write(line + "\n")
        stream.flush()


class Process:
    """name: put before every line, unless empty. env: variables besides those of this process. quiet: stdout is kept in
    `out` instead of being passed on, and stderr only in `last`."""

    def __init__(
        self, name: str, words: Sequence[str], env: Mapping[str, str], *, stdin: str = "", quiet: bool = False
    ) -> None:
        self.name = name
        self._kept: deque[str] = deque(maxlen=LAST)
        self._out: list[str] = []
        # A session of its own: Ctrl-C in the terminal reaches the launch alone, which hands it on once.
        self.popen = subprocess.Popen(
            list(words),
            env=dict(os.environ) | dict(env),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.popen.stdout and self.popen.stderr
        pumps = [(self.popen.stdout, None if quiet else sys.stdout), (self.popen.stderr, None if quiet else sys.stderr)]
        self._threads = [threading.Thread(target=self._pump, args=pump, daemon=True) for pump in pumps]
        for thread in self._threads:
            thread.start()
        if stdin:
            assert self.popen.stdin
            with suppress(BrokenPipeError):  # it ended without reading; its exit code tells why
                self.popen.stdin.write(stdin.encode())
                self.popen.stdin.close()

    def _pump(self, source: IO[bytes], onto: TextIO | None) -> None:
        prefix = f"[{self.name}] " if self.name else ""
        for raw in source:
            line = raw.decode(errors="replace").rstrip("\n")
            self._kept.append(line)
            if onto is not None:
                say(prefix + line, onto)
            elif source is self.popen.stdout:
                self._out.append(line)

    def wait(self) -> int:
        """The exit code, negative for a signal, once the process has ended and its output was passed on."""
        code = self.popen.wait()
        for thread in self._threads:
            # A child that outlives the process may hold the pipes open.
            thread.join(timeout=2)
        return code

    def signal(self, signum: int) -> None:
        """To the process itself; it may have ended."""
        if self.popen.poll() is None:
            self.popen.send_signal(signum)

    def end(self, patience: float = 10) -> None:
        """End it if it still runs: politely, and after `patience` seconds not."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """It and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    @property
    def last(self) -> tuple[str, ...]:
        return tuple(self._kept)

    @property
    def out(self) -> str:
        return "\n".join(self._out).strip()
