"""Where a bank lies: on every device, split over them, or on the host. Chosen by bytes, before a weight is read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from jaxmerge.errors import InputError
from jaxmerge.runtime.memory import GB, Devices
from jaxmerge.search.engines.needs import HOMES, Needs

# Of a device's memory, what is planned with: the rest is for what is not counted, and for holes.
USABLE = 0.9


@dataclass(frozen=True)
class Home:
    """A bank's home on `devices`: `pop` candidates side by side, each over `model` devices. reason: why no earlier home
    was taken."""

    name: str
    pop: int
    model: int
    devices: Devices
    needs: Needs
    reason: str = ""

    @cached_property
    def parts(self) -> Mapping[str, int]:
        """Bytes of each device by what they are for. What is measured besides candidates, such as the parents, is one
        whole model."""
        needs, model, streamed = self.needs, self.model, self.name == "host"
        chunk = needs.chunk
        bank = {
            "device": needs.held(needs.bank, model),
            "sharded": -(-needs.bank // self.pop) + needs.layer,
            "host": max(2 * needs.layer, needs.ends),
        }[self.name]
        models = max(0 if streamed else needs.model, chunk * needs.written.get(self.name, 0))
        return {
            "bank": bank,
            "merged layer": chunk * needs.held(needs.merged, model, of_layers=True),
            "a whole model": needs.held(models, model),
            "activations": chunk * needs.activations,
            "logits": chunk * needs.logits,
            "cache": chunk * needs.cached(model),
            "waiting": chunk * needs.stream if streamed else 0,
        }

    def held(self, size: int) -> int:
        """What each device of a candidate holds of weights of this many bytes."""
        return self.needs.held(size, self.model)

    def at(self, chunk: int) -> "Home":
        """The same with another number of candidates at once on a device."""
        return replace(self, needs=replace(self.needs, chunk=chunk))

    @property
    def bytes(self) -> int:
        """Of each device."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.bytes <= USABLE * self.devices.memory

    @property
    def waiting(self) -> int:
        """Bytes of a device in which the streams of waiting candidates may lie."""
        left = int(USABLE * self.devices.memory) - self.bytes + self.parts["waiting"]
        return max(self.needs.chunk * self.needs.stream, left)

    @property
    def label(self) -> str:
        """The home by its name, and how many devices have a candidate where that is more than one."""
        return self.name + (f" with model {self.model}" if self.model > 1 else "")

    @property
    def line(self) -> str:
        parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in self.parts.items() if size)
        return (
            f"{self.devices.name}, {self.needs.sources}: bank {self.name}, pop {self.pop} x model {self.model}, "
            f"{gigabytes(self.bytes)} of {gigabytes(self.devices.memory)} GB ({parts}){self.reason}"
        )


def choose(
    needs: Needs,
    devices: Devices,
    wanted: str = "auto",
    *,
    models: Sequence[int] = (1,),
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Home:
    """The first home that fits: on the device with the smallest `model` that makes it fit, then split over `pop`, then
    on the host.

    wanted: a home, or auto. models: the sizes that `model` may have, ascending. refused: homes that are not to be had,
    each with the reason. Raises InputError where none fits, with the bytes of each and what would.
    """
    if wanted in refused:
        raise InputError(f"runtime.bank: {wanted}: {refused[wanted]}")
    tried = list(_homes(needs, devices, models))
    usable = [home for home in tried if home.name == wanted or (wanted == "auto" and home.name not in refused)]
    if not usable:
        needed = "a mesh whose model is 1" if 1 not in models else "a pop axis of at least 2 devices"
        raise InputError(f"runtime.bank: {wanted}: needs {needed}; use device{' or host' * (1 in models)}")
    for home in usable:
        if home.fits:
            before = usable[: usable.index(home)]
            short = ", ".join(f"{b.label} needs {gigabytes(b.bytes)} GB" for b in _last_of_each(before))
            why = f"; {short}" if short else ""
            return replace(home, reason=why)
    short = ", ".join(f"{home.label} {gigabytes(home.bytes)} GB" for home in _last_of_each(usable))
    least = min(usable, key=lambda home: home.bytes)
    fitting = next((home.name for home in tried if home.fits and home.name not in refused), None)
    enough = gigabytes(int(1.01 * least.bytes / USABLE))
    remedy = f"write runtime.bank: {fitting}" if fitting else f"it takes devices of {enough} GB, or shorter texts"
    blocked = next((home.name for home in tried if home.fits and home.name in refused), None)
    if blocked and not fitting:
        remedy += f"; {blocked} would fit, but {refused[blocked]}"
    raise InputError(
        f"runtime.bank: {wanted}: {needs.sources} fits in no home on {devices.name} with "
        f"{gigabytes(devices.memory)} GB each: {short}; {remedy} (runtime.memory says how much a device has)"
    )


def gigabytes(size: int) -> str:
    """With one decimal, or where that says nothing two digits."""
    return f"{size / GB:,.1f}" if size >= GB // 20 or not size else f"{size / GB:.2g}"


def _homes(needs: Needs, devices: Devices, models: Sequence[int]) -> Iterator[Home]:
    for name in HOMES:
        for model in models:
            pop = devices.count // model
            # Only a bank on the device is divided over `model` as well.
            if name == "device" or (model == 1 and (name == "host" or pop > 1)):
                yield Home(name, pop, model, devices, needs)


def _last_of_each(homes: Sequence[Home]) -> list[Home]:
    """Of each kind the one that needs least."""
    return list({home.name: home for home in homes}.values())
