"""How processes find each other, agree and notice a loss; the store is a dictionary here, the processes are threads."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jaxmerge.errors import CheckpointError, InputError, Interrupted
from jaxmerge.runtime import watch
from jaxmerge.runtime.distributed import join
from jaxmerge.runtime.peers import Peers

alone = join.__wrapped__


class Store(dict[str, Any]):
    """What `jax.distributed` keeps in process 0."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        assert allow_overwrite or key not in self
        self[key] = value

    key_value_set_bytes = key_value_set

    def key_value_try_get(self, key: str) -> str:
        if key not in self:
            raise RuntimeError(f"NOT_FOUND: {key}")
        return self[key]

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> Any:
        until = time.monotonic() + min(timeout_in_ms, 200) / 1000
        while key not in self:
            if time.monotonic() > until:
                raise RuntimeError("DEADLINE_EXCEEDED")
            time.sleep(0.002)
        return self[key]

    blocking_key_value_get_bytes = blocking_key_value_get

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in list(self.items()) if name.startswith(key)]

    def key_value_delete(self, key: str) -> None:
        for name in [name for name in self if name.startswith(key)]:
            del self[name]


def together(count: int, work: Callable[[Peers], Any], store: Store | None = None) -> list[Any]:
    """What each process makes of it: a value, or the error it raised."""
    shared = Store() if store is None else store
    found: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            found[number] = work(Peers(shared, number, count))
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def test_all_have_what_process_0_has() -> None:
    long = "x" * 3_000_000  # several parts
    said = together(3, lambda peers: [peers.same(lambda: (peers.number, long)), peers.same(lambda: peers.number)])
    assert said == [[(0, long), 0]] * 3


def test_what_all_have_read_is_dropped() -> None:
    store = Store()

    def work(peers: Peers) -> None:
        for _ in range(3):
            peers.same(lambda: 1)
        peers.beat(1)
        peers.finish()

    together(2, work, store)
    Peers(store, 0, 2)._dropped = 0
    leader = Peers(store, 0, 2)
    leader._messages = 3
    leader.beat(2)
    assert not [key for key in store if "message" in key]


def test_a_check_that_fails_in_one_fails_in_all_with_its_name() -> None:
    def check(peers: Peers) -> None:
        if peers.number == 1:
            raise CheckpointError("tensor 'x' is missing")

    failed = together(3, lambda peers: peers.require("models", lambda: check(peers)))
    assert [type(error) for error in failed] == [CheckpointError] * 3
    assert str(failed[1]) == "tensor 'x' is missing"
    assert str(failed[0]).startswith("process 1 on ") and str(failed[0]).endswith(": tensor 'x' is missing")


def test_who_waits_hears_that_the_run_has_ended() -> None:
    def work(peers: Peers) -> None:
        if peers.number == 0:
            peers.end(InputError("the disk is full"))
        else:
            peers.same(lambda: 0)

    _, error = together(2, work)
    assert isinstance(error, InputError) and str(error).endswith("the disk is full")


def test_all_stop_before_the_same_step() -> None:
    def work(peers: Peers) -> int:
        for step in range(2000):
            time.sleep(0.002 * peers.leads)  # a leader waits for nobody, but for the scores
            try:
                peers.check()
            except KeyboardInterrupt:
                return step
            if peers.number == 1 and step == 7:
                peers.ask_to_stop()
            peers.same(lambda: 0)
        return -1

    steps = together(3, work)
    assert len(set(steps)) == 1 and steps[0] > 7


class Ended(BaseException):
    pass


def watched(monkeypatch: pytest.MonkeyPatch, peers: Peers, until: float = 5.0) -> tuple[int, str]:
    """What the watch ends this process with."""
    said: list[tuple[int, str]] = []

    def end(peers: Peers, message: str, *, code: int = 75, tell: bool = True) -> None:
        said.append((code, message))
        raise Ended

    monkeypatch.setattr(watch, "_end", end)
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "HEARD", 0.1)
    with pytest.raises(Ended):
        watch._watch(peers)
    return said[0]


def test_a_silent_peer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    Peers(store, 1, 2).beat(1)
    mine = Peers(store, 0, 2)
    mine.silence = 0.3
    code, message = watched(monkeypatch, mine)
    assert code == 75 and message.startswith("process 1 on ") and message.endswith("was lost")


def test_process_0_is_lost_with_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    mine = Peers(store, 1, 2)
    monkeypatch.setattr(store, "key_value_dir_get", lambda key: 1 / 0, raising=False)
    assert watched(monkeypatch, mine) == (75, f"{mine.name(0)} was lost")


def test_a_process_that_has_nothing_done_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(watch.WATCHDOG_SECONDS, "0.3")
    code, message = watched(monkeypatch, Peers(Store(), 0, 1))
    assert code == 75 and "is stuck: nothing was done for" in message


def test_the_error_of_another_ends_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    Peers(store, 1, 2).end(InputError("no such key"))
    code, message = watched(monkeypatch, Peers(store, 0, 2))
    assert code == 2 and message.startswith("process 1 on ") and message.endswith("no such key")


def test_an_interruption_is_told_as_one() -> None:
    store = Store()
    Peers(store, 1, 2).end(KeyboardInterrupt())
    assert isinstance(Peers(store, 0, 2).ended(), Interrupted)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PROCESSES": "2"}, "JAXMERGE_PROCESSES is set, but JAXMERGE_COORDINATOR is not"),
        ({"COORDINATOR": "host"}, "JAXMERGE_COORDINATOR: write HOST:PORT"),
        ({"COORDINATOR": "h:1", "PROCESSES": "two"}, "JAXMERGE_PROCESSES: must be a whole number"),
        ({"COORDINATOR": "h:1", "PROCESSES": "2", "PROCESS": "2"}, "JAXMERGE_PROCESS: is 2, but .* they are 0 to 1"),
        ({"COORDINATOR": "h:1", "PROCESSES": "2"}, "JAXMERGE_PROCESS: must be a whole number"),
    ],
)
def test_a_wrong_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"JAXMERGE_{name}", value)
    with pytest.raises(InputError, match=message):
        alone()


def test_alone_without_an_environment() -> None:
    assert alone() is None


@pytest.mark.parametrize("number", [0, 1])
def test_peers_that_do_not_come_are_missed(number: int) -> None:
    # Nobody listens on a port that was free a moment ago; and nobody comes to process 0.
    from jaxmerge.launch.local import _free_port

    environment = os.environ | {
        "JAXMERGE_COORDINATOR": f"localhost:{_free_port()}",
        "JAXMERGE_PROCESSES": "2",
        "JAXMERGE_PROCESS": str(number),
        "JAXMERGE_JOIN_SECONDS": "1",
    }
    code = "from jaxmerge.errors import InputError\nfrom jaxmerge.runtime.distributed import join\n"
    code += "try: join()\nexcept InputError as e: print(f'jaxmerge: {e}'); raise SystemExit(2)"
    words = [sys.executable, "-P", "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    assert last.startswith("jaxmerge: JAXMERGE_COORDINATOR: the processes did not find each other at localhost:")
