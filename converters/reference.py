"""A `ref` names a model: a folder, or a hub id with optional `@revision`; either may be followed by
`+lora-ref`."""

import re
from collections.abc import Sequence
from pathlib import Path

from jaxmerge.errors import InputError

HUB_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
# Weights, config, tokenizer and chat template; no pickles, no code.
FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt"]


def resolve(ref: str, *, relative_to: Sequence[Path]) -> Path:
    """The folder that `ref` names.

    A local folder, relative to the first of `relative_to` that has it, comes first and never touches the
    network. A hub id is taken from the hub's cache or downloaded into it; HF_HUB_OFFLINE and HF_HOME are
    honoured. Raises InputError naming the ref where it is neither, cannot be fetched, or has a LoRA part.
    """
    if not ref.strip():
        raise InputError("a model reference is empty; name a folder or a hub id such as org/name")
    bases = relative_to or [Path()]
    candidates = [base / Path(ref).expanduser() for base in bases]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    model, plus, _ = ref.partition("+")
    if plus:
        raise InputError(f"{ref}: LoRA references are not supported yet; merge the LoRA into its model first")
    looked = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    hub_id = HUB_ID.fullmatch(model)
    # `models/math` beside an existing folder `models` is a misspelt path rather than a name on the hub.
    if not hub_id or any((base / ref.split("/")[0]).is_dir() for base in bases):
        raise InputError(f"{ref}: no such folder (looked for {looked}); correct the path")
    return _from_hub(ref, hub_id["repo"], hub_id["revision"], looked)


def _from_hub(ref: str, repo: str, revision: str | None, looked: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=FILES))
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
