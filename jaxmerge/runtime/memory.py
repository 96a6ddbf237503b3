"""How much memory a device has: those that are here, and those that one plans for."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax

from jaxmerge.errors import InputError

GB = 10**9


class Kind(NamedTuple):
    """Of devices. memory: bytes of one. share: how many of the number in a slice's name make one, for slices of v4 and
    v5p are named by cores, of which a device has two. several, alone: devices of a host in a slice of several hosts,
    and at most in one of a single host. flops: a second, of products in bfloat16, at its peak."""

    memory: int
    share: int
    several: int
    alone: int
    flops: float


# Google's documentation of each TPU, NVIDIA's data sheets, and machines of eight GPUs.
KNOWN = {
    "v4": Kind(32 * GB, 2, 4, 4, 275e12),
    "v5e": Kind(16 * GB, 1, 4, 8, 197e12),
    "v5p": Kind(95 * GB, 2, 4, 4, 459e12),
    "v6e": Kind(32 * GB, 1, 4, 8, 918e12),
    "A100": Kind(80 * GB, 1, 8, 8, 312e12),
    "H100": Kind(80 * GB, 1, 8, 8, 989e12),
    "H200": Kind(141 * GB, 1, 8, 8, 989e12),
}
# What a container may use, as the kernel tells it.
LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Devices:
    """name: in words. memory: bytes of each of the `count`. host: how many are one process's. flops: see `Kind`; None
    where it is not known."""

    name: str
    count: int
    memory: int
    host: int
    flops: float | None = None


def named(text: str) -> Devices:
    """Devices by name and number, such as `v5e-16` or `H100-8`. Raises InputError for others."""
    known = {name.lower(): name for name in KNOWN}
    match = re.fullmatch(r"(\w+)-(\d+)", text.strip())
    if match is None or match[1].lower() not in known or int(match[2]) < 1:
        names = ", ".join(KNOWN)
        raise InputError(f"--devices: '{text}' is none that is known; write {names} and a number, as in v5e-16")
    kind = KNOWN[known[match[1].lower()]]
    if int(match[2]) % kind.share:
        raise InputError(f"--devices: {text}: slices of {known[match[1].lower()]} are named by cores, an even number")
    count = int(match[2]) // kind.share
    return Devices(text.strip(), count, kind.memory, count if count <= kind.alone else kind.several, kind.flops)


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
