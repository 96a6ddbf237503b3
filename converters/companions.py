"""The files that travel with weights: config, generation config, tokenizer, chat template, processors."""

import shutil
from pathlib import Path
from typing import Any, Protocol

from jaxmerge.converters.checkpoint import CONFIG, require_inside

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
MODEL = (CONFIG, "generation_config.json", "preprocessor_config.json", "processor_config.json")
COMPANIONS = (*MODEL, *TOKENIZER)


class ModelFolder(Protocol):
    """A folder with a model: `Checkpoint` or `FlaxFolder`."""

    @property
    def folder(self) -> Path: ...

    @property
    def config(self) -> dict[str, Any]: ...


def copy_companions(source: Path, dst: Path, patterns: tuple[str, ...] = COMPANIONS) -> list[str]:
    """Copy those of the files that `source` has, byte for byte, and return their names.

    `patterns=TOKENIZER` copies a tokenizer with its chat template, which may come from another model; `MODEL`
    the rest.
    """
    copied = []
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            name = file.relative_to(source)
            require_inside(source, str(name))
            (dst / name).parent.mkdir(parents=True, exist_ok=True)
            # Contents only: the hub's cache holds links and read-only files.
            shutil.copyfile(file, dst / name)
            copied.append(str(name))
    return copied
