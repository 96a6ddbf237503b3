"""How much memory a device has: those that are here, and those that one plans for."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxmerge.errors import InputError

GB = 10**9
# Bytes of one device by its name in a slice or a machine; how many of the number in the name make a device, for slices
# of v4 and v5p are named by cores, of which a device has two; and how many devices a host has in a slice of several
# hosts, and in one of a single host at most (Google's documentation of each TPU; machines of eight GPUs).
KNOWN = {
    "v4": (32 * GB, 2, 4, 4),
    "v5e": (16 * GB, 1, 4, 8),
    "v5p": (95 * GB, 2, 4, 4),
    "v6e": (32 * GB, 1, 4, 8),
    "A100": (80 * GB, 1, 8, 8),
    "H100": (80 * GB, 1, 8, 8),
    "H200": (141 * GB, 1, 8, 8),
}
# What a container may use, as the kernel tells it.
LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Devices:
    """name: in words. memory: bytes of each of the `count`. host: how many are one process's."""

    name: str
    count: int
    memory: int
    host: int


def named(text: str) -> Devices:
    """Devices by name and number, such as `v5e-16` or `H100-8`. Raises InputError for others."""
    known = {name.lower(): name for name in KNOWN}
    match = re.fullmatch(r"(\w+)-(\d+)", text.strip())
    if match is None or match[1].lower() not in known or int(match[2]) < 1:
        names = ", ".join(KNOWN)
        raise InputError(f"--devices: '{text}' is none that is known; write {names} and a number, as in v5e-16")
    memory, share, several, alone = KNOWN[known[match[1].lower()]]
    if int(match[2]) % share:
        raise InputError(f"--devices: {text}: slices of {known[match[1].lower()]} are named by cores, an even number")
    count = int(match[2]) // share
    return Devices(text.strip(), count, memory, count if count <= alone else several)


def here(devices: list[jax.Device], memory: int | None = None) -> Devices:
    """The given devices. memory: of each, where it is not to be asked for. Those that say nothing of memory of their
    own share the host's."""
    # Of several processes each knows the memory of its own devices only.
    first = next((d for d in devices if d.process_index == jax.process_index()), devices[0])
    sharing = sum(device.process_index == first.process_index for device in devices)
    if memory is None:
        stats = first.memory_stats() or {}
        memory = stats.get("bytes_limit") or host_memory() // sharing
    return Devices(f"{len(devices)} x {first.device_kind}", len(devices), memory, sharing)


def host_memory() -> int:
    """Bytes that this process may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = LIMIT.read_text().strip() if LIMIT.is_file() else ""
    return min(whole, int(text)) if text.isdigit() else whole
