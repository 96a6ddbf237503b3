"""Several processes that stand and fall together."""

import signal
import time
from collections.abc import Sequence

from jaxmerge.launch.process import Process
from jaxmerge.launch.shell import Ending, Start

AGAIN = 75
# A host that is killed from outside is a host lost to preemption, not an error of the command.
KILLED = (-signal.SIGKILL, -signal.SIGTERM)
POLL = 0.05
# Seconds between a request to end and the end by force.
GRACE = 20.0


def together(starts: Sequence[Start], patience: float) -> Ending:
    """Start all and wait for all. The ending is that of the process which failed first.

    One that fails ends the others at once. One that was interrupted or killed leaves them `patience` seconds to notice
    and to end by themselves."""
    several = len(starts) > 1
    processes: list[Process] = []
    try:
        for start in starts:
            processes.append(Process(start.name if several else "", start.words, start.env))
        failed = _first_failure(processes)
        if failed is None:
            for process in processes:
                process.wait()
            return Ending(0, starts[0].name)
        code = failed.popen.returncode
        # Of those that are told and those that have to notice, the latter need longer.
        _end(processes, patience if code in KILLED else min(patience, GRACE) if code == AGAIN else 0.0)
        codes = [process.wait() for process in processes]
    except KeyboardInterrupt:
        _end(processes, 0.0, force=max(GRACE, patience))
        raise
    finally:
        for process in processes:
            process.end(0)
    place = processes.index(failed)
    name = f"process {starts[place].name}" if several else "the command"
    if code in KILLED:
        # The others name the lost host and say that the command goes on; alone it was the command that was killed.
        lost = AGAIN if not several or AGAIN in codes or all(c in KILLED or c == 0 for c in codes) else 128 - code
        return Ending(lost, f"{name} (killed)", failed.last)
    return Ending(128 - code if code < 0 else code, name, failed.last)


def _first_failure(processes: Sequence[Process]) -> Process | None:
    while True:
        ended = [process for process in processes if process.popen.poll() is not None]
        # Of several within one look, the one that failed by itself tells more than the one that lost its peer.
        bad = [process for process in ended if process.popen.returncode]
        if bad:
            return min(bad, key=lambda process: process.popen.returncode == AGAIN)
        if len(ended) == len(processes):
            return None
        time.sleep(POLL)


def _end(processes: Sequence[Process], patience: float, force: float = GRACE) -> None:
    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while any(process.popen.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(POLL)
        return all(process.popen.poll() is not None for process in processes)

    if wait(patience):
        return
    for process in processes:
        process.signal(signal.SIGTERM)
    if not wait(force):
        for process in processes:
            if process.popen.poll() is None:
                process.kill()
