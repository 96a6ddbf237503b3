"""The merged model's tokenizer: another model's files, added tokens, a chat template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmerge.converters.companions import TOKENIZER, copy_companions
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.vocabulary import VocabularyPlan
from jaxmerge.tokens.chat_template import write_chat_template
from jaxmerge.tokens.vocabulary import FILE

GENERATION = "generation_config.json"


def write_tokenizer(plan: Plan, folder: Path) -> None:
    """Change the companions of the model that the output is like, which `folder` holds, to what the recipe asks for."""
    if plan.vocabulary is not None:
        _write_vocabulary(plan.vocabulary, plan.models[plan.like].folder, folder)
    if plan.chat_template is not None:
        write_chat_template(folder, plan.chat_template)


def _write_vocabulary(vocabulary: VocabularyPlan, present: Path, folder: Path) -> None:
    if vocabulary.folder != present:
        replace_tokenizer(vocabulary.folder, folder)
        _change_json(folder / GENERATION, vocabulary.special)
    if vocabulary.extended:
        write_json(folder / FILE, vocabulary.vocabulary.content)


def _change_json(file: Path, entries: Mapping[str, Any]) -> None:
    """Sets those entries of a JSON object that it has already."""
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        write_json(file, content | {key: value for key, value in entries.items() if key in content})


def replace_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer's files of `source`, chat template included, in place of those that `folder` has."""
    for pattern in TOKENIZER:
        for file in folder.glob(pattern):
            file.unlink()
    copy_companions(source, folder, TOKENIZER)


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
