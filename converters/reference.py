"""A `ref` names a model: a folder, or a hub id with optional `@revision`; either may be followed by `+` and a LoRA that
is named the same way."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.errors import InputError

HUB_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
# Weights, config, tokenizer and chat template; no pickles, no code.
FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt"]
# Not the checkpoints of the training beside them.
ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"]


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
    network. A hub id is taken from the hub's cache or downloaded into it; HF_HUB_OFFLINE and HF_HOME are
    honoured. Raises InputError naming the ref where a part of it is neither, cannot be fetched, or more than one LoRA
    is named.
    """
    bases = relative_to or [Path()]
    model, lora = split(ref, bases)
    folder = _folder(model, ref, bases, FILES)
    return Location(folder, None if lora is None else _folder(lora, ref, bases, ADAPTER_FILES))


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


def _local(part: str, bases: Sequence[Path]) -> Path | None:
    if not part.strip():
        return None
    candidates = (base / Path(part).expanduser() for base in bases)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _folder(part: str, ref: str, bases: Sequence[Path], files: list[str]) -> Path:
    """part: of `ref`, which errors name as it is written. files: what is fetched from the hub."""
    if not part.strip():
        raise InputError(f"'{ref}': a model reference is empty; name a folder or a hub id such as org/name")
    if (found := _local(part, bases)) is not None:
        return found
    looked = ", ".join(dict.fromkeys(str(base / Path(part).expanduser()) for base in bases))
    hub_id = HUB_ID.fullmatch(part)
    # `models/math` beside an existing folder `models` is a misspelt path rather than a name on the hub.
    if not hub_id or any((base / part.split("/")[0]).is_dir() for base in bases):
        raise InputError(f"{ref}: no such folder (looked for {looked}); correct the path")
    return _from_hub(part, hub_id["repo"], hub_id["revision"], looked, files)


def _from_hub(ref: str, repo: str, revision: str | None, looked: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))
    # Everything: the network's errors have no public base of their own.
    except Exception as error:
        raise InputError(f"{ref}: no such folder (looked for {looked}), and {_reason(error)}") from error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return "the hub gives access on request only; ask for it on the model's page and log in"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such model, or it is private; correct the name or log in"
    if isinstance(error, RevisionNotFoundError):
        return "the hub has the model but not this revision; correct it"
    first = next(iter(str(error).splitlines()), type(error).__name__)[:200].rstrip(".")
    return f"it is not in the hub's cache and cannot be fetched ({first}); correct it or download it first"
