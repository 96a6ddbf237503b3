"""Models of the hub: only what is needed of one, in the hub's own cache."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from jaxmerge.converters.checkpoint import INDEX, SINGLE
from jaxmerge.converters.companions import COMPANIONS
from jaxmerge.errors import InputError

# No pickles, no code, no weights in other formats or in folders of their own. The README states the license.
SMALL = (*COMPANIONS, INDEX, "README.md")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "README.md")
COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(repo: str, revision: str | None, *, adapter: bool, named: str) -> Path:
    """The folder of a model in the hub's cache, downloaded where it is not there; HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE
    and HF_TOKEN are honoured. adapter: whether it is a LoRA. named: what an error calls it, as far as `; `.

    Raises InputError with the remedy where it cannot be had."""
    folder = _snapshot(repo, revision, ADAPTER if adapter else SMALL, named)
    if not adapter:
        # The same commit, even if another comes meanwhile.
        _snapshot(repo, commit(folder) or revision, _weights(folder / INDEX), named)
    return folder


def commit(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds: it lies in models--org--name/snapshots/COMMIT."""
    return folder.name if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name) else None


def _weights(index: Path) -> list[str]:
    """The shards that an index names. What is wrong with it is said when it is read."""
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({shard for shard in named if isinstance(shard, str)})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [SINGLE]


def _snapshot(repo: str, revision: str | None, files: Sequence[str], named: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(files)))
    # Everything: the network's errors have no public base of their own.
    except Exception as error:
        raise InputError(f"{named}, and {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    # The hub's library says first that the cache has no copy, and why it asked the cache behind that.
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, GatedRepoError):
            return "the hub gives access on request only; ask for it on the model's page and log in: hf auth login"
        if isinstance(cause, RepositoryNotFoundError):
            return "the hub has no such model, or it is private; correct the name or log in: hf auth login"
        if isinstance(cause, RevisionNotFoundError):
            return "the hub has the model but not this revision; correct it"
    first = next(iter(str(error).splitlines()), type(error).__name__)[:200].rstrip(".")
    return f"it is not in the hub's cache and cannot be fetched ({first}); correct it or download it first"
