"""A `ref` names a model: a folder, or a hub id with optional `@revision`; either may be followed by `+` and a LoRA that
is named the same way."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.errors import InputError

HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?")


@dataclass(frozen=True)
class Location:
    """Where a reference leads: the folder of a model, and of the LoRA that is applied to it, if one is."""

    folder: Path
    adapter: Path | None = None

    def __str__(self) -> str:
        return str(self.folder) if self.adapter is None else f"{self.folder}+{self.adapter}"

    def resolve(self) -> "Location":
        """The same as absolute paths without links: equal for the same model."""
        return Location(self.folder.resolve(), None if self.adapter is None else self.adapter.resolve())


def resolve(ref: str, *, relative_to: Sequence[Path]) -> Location:
    """Where `ref` leads.

    A local folder, relative to the first of `relative_to` that has it, comes first and never touches the
    network. A hub id is taken from the hub's cache or downloaded into it, see `fetch`. Raises
    InputError naming the ref where a part of it is neither, cannot be fetched, or more than one LoRA is named.
    """
    bases = relative_to or [Path()]
    model, lora = split(ref, bases)
    folder = _folder(model, ref, bases)
    return Location(folder, None if lora is None else _folder(lora, ref, bases, adapter=True))


def present(ref: str, *, relative_to: Sequence[Path]) -> Location | None:
    """Where `ref` leads, None if a part of it is to be fetched from the hub. Raises InputError as `resolve` does,
    without touching the network."""
    bases = relative_to or [Path()]
    model, lora = split(ref, bases)
    folder, adapter = _here(model, ref, bases), None if lora is None else _here(lora, ref, bases)
    return None if folder is None or (lora is not None and adapter is None) else Location(folder, adapter)


def split(ref: str, bases: Sequence[Path]) -> tuple[str, str | None]:
    """The model and the LoRA that a reference names. A `+` may also stand in the name of a folder that there is."""
    if _local(ref, bases) is not None or "+" not in ref:
        return ref, None
    pluses = [match.start() for match in re.finditer(r"\+", ref)]
    pairs = [(ref[:plus], ref[plus + 1 :]) for plus in pluses]
    chosen = next((pair for pair in pairs if all(_local(part, bases) is not None for part in pair)), None)
    if chosen is None and len(pairs) > 1:
        raise InputError(f"{ref}: names more than one LoRA; apply one, and merge several as models of their own")
    return chosen or pairs[0]


def spelled_out(ref: str, folder: Path) -> str:
    """The same reference from anywhere: local parts, which are relative to `folder`, as absolute paths; hub ids as they
    are."""
    parts = (part for part in split(ref, [folder]) if part is not None)
    return "+".join(part if (found := _local(part, [folder])) is None else str(found.resolve()) for part in parts)


def hub_name(part: str, bases: Sequence[Path]) -> tuple[str, str | None]:
    """A model's id on the hub, and the revision if one is named; a local folder, whose path may have an `@`, as it is
    written, but for `~`."""
    if _local(part, bases) is not None:
        return os.path.expanduser(part), None
    repo, _, revision = part.partition("@")
    return repo, revision or None


def _local(part: str, bases: Sequence[Path]) -> Path | None:
    if not part.strip():
        return None
    candidates = (base / Path(part).expanduser() for base in bases)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _folder(part: str, ref: str, bases: Sequence[Path], *, adapter: bool = False) -> Path:
    if (found := _here(part, ref, bases)) is not None:
        return found
    from jaxmerge.converters.hub import fetch

    repo, revision = hub_name(part, bases)
    named = f"{part}: no such folder (looked for {_looked(part, bases)})"
    return fetch(repo, revision, adapter=adapter, named=named)


def _here(part: str, ref: str, bases: Sequence[Path]) -> Path | None:
    """The folder of a part of `ref`, which errors name as it is written; None for a hub id."""
    if not part.strip():
        raise InputError(f"'{ref}': a model reference is empty; name a folder or a hub id such as org/name")
    if (found := _local(part, bases)) is not None:
        return found
    # `models/math` beside an existing folder `models` is a misspelt path rather than a name on the hub.
    if not HUB_ID.fullmatch(part) or any((base / part.split("/")[0]).is_dir() for base in bases):
        raise InputError(f"{ref}: no such folder (looked for {_looked(part, bases)}); correct the path")
    return None


def _looked(part: str, bases: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(str(base / Path(part).expanduser()) for base in bases))
