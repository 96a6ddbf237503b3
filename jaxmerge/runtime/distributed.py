"""How the processes that run the same search find each other."""

import logging
import os
from contextlib import suppress
from functools import cache
from typing import Any

from jaxmerge.errors import InputError, JaxmergeError
from jaxmerge.runtime.peers import Peers
from jaxmerge.runtime.processes import AUTO, COORDINATOR, PROCESS, PROCESSES
from jaxmerge.runtime.watch import answers, on_abort, watch

# Seconds that all processes have to find each other. Overridden by the environment, as are the limits of `watch`.
JOIN_SECONDS = "JAXMERGE_JOIN_SECONDS"


@cache
def join() -> Peers | None:
    """Find the other processes that the environment tells of; None where this one is alone.

    Call it before anything else uses jax. Raises InputError where the environment is wrong or the others do not come.
    """
    address = os.environ.get(COORDINATOR)
    if address is None:
        for name in (PROCESSES, PROCESS):
            if name in os.environ:
                raise InputError(f"{name} is set, but {COORDINATOR} is not: set it to HOST:PORT of process 0, or auto")
        return None
    import jax
    from jax._src import distributed  # the store has no public name; jax's own multihost_utils takes it from here

    seconds = int(os.environ.get(JOIN_SECONDS, "300"))
    missing = (
        f"{COORDINATOR}: the processes did not find each other at {address} within {seconds} s; start all of them with "
        "the same address, which every host must reach"
    )
    arguments: dict[str, Any] = {}
    if address != AUTO:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdigit()):
            raise InputError(f"{COORDINATOR}: write HOST:PORT of process 0, or auto, not {address!r}")
        count, number = _count(PROCESSES, 1), _count(PROCESS, 0)
        if number >= count:
            raise InputError(f"{PROCESS}: is {number}, but with {PROCESSES}={count} they are 0 to {count - 1}")
        arguments = {"coordinator_address": address, "num_processes": count, "process_id": number}
        arguments["cluster_detection_method"] = "deactivate"
        if number and not answers(address, seconds):
            raise InputError(missing)
    on_abort(lambda: (InputError.exit_code, missing))
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)  # proxies: nothing here goes through them
    try:
        jax.distributed.initialize(
            **arguments, initialization_timeout=seconds, heartbeat_timeout_seconds=60, shutdown_timeout_seconds=60
        )
    except ValueError:
        raise InputError(
            f"{COORDINATOR}: auto, but jax finds no Cloud TPU, SLURM or Open MPI here; set HOST:PORT of process 0"
        ) from None
    except RuntimeError as error:
        if "before any JAX" in str(error):
            raise
        raise InputError(f"{missing} ({str(error).splitlines()[0][:120]})") from None
    if jax.process_count() == 1:
        on_abort(lambda: None)
        return None
    peers = Peers(distributed.global_state.client, jax.process_index(), jax.process_count())
    watch(peers, distributed.global_state.coordinator_address or address)
    return peers


def leads() -> bool:
    """Whether this process is the one that shows and writes. Only once it has joined the others, if there are any."""
    peers = join()
    return peers is None or peers.leads


def leave(code: int) -> None:
    """End this process, where it has peers and has failed, so that neither waits for the other. Else do nothing."""
    if code and join.cache_info().currsize and (peers := join()) is not None:
        with suppress(Exception):  # process 0 may be gone, and the store with it
            peers.end(JaxmergeError(f"ended with exit code {code}"))
        peers.leave(code)


def _count(name: str, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit() or int(text) < least:
        raise InputError(f"{name}: must be a whole number of at least {least}, not {text!r}; {COORDINATOR} is set")
    return int(text)
