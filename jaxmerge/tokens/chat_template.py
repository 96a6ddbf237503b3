"""Chat templates: that of a model folder, and the one a recipe asks for."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxmerge.errors import InputError, unknown

FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
NAMED = Path(__file__).parent / "chat_templates"


def read_chat_template(folder: Path) -> str | None:
    """The template of a model folder: its jinja file, else that in tokenizer_config.json (`default` of several)."""
    file = folder / FILE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        found = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8")).get("chat_template")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / TOKENIZER_CONFIG}: cannot be read as JSON ({error})") from error
    if isinstance(found, list):
        found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
    return found


def choose_chat_template(wanted: str, folders: Sequence[Path]) -> str | None:
    """`auto`: the template that most of the models have, the first of equals, None where none has any. A name: one of
    ours. Else the text of a template. Raises InputError for an unknown name.
    """
    if wanted == "auto":
        templates = Counter(text for text in map(read_chat_template, folders) if text)
        return templates.most_common(1)[0][0] if templates else None
    require_known(wanted)
    file = NAMED / f"{wanted}.jinja"
    return wanted if _is_template(wanted) else file.read_text(encoding="utf-8")


def require_known(wanted: str) -> None:
    """Raises InputError for a name that is none of ours."""
    names = ["auto", *(file.stem for file in NAMED.glob("*.jinja"))]
    if not _is_template(wanted) and wanted not in names:
        raise unknown("chat template", wanted, names)


def _is_template(wanted: str) -> bool:
    return "{{" in wanted or "{%" in wanted


def write_chat_template(folder: Path, template: str) -> None:
    """Make it the template of a folder; an entry in tokenizer_config.json gives way."""
    (folder / FILE).write_text(template, encoding="utf-8")
    file = folder / TOKENIZER_CONFIG
    if file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop("chat_template", None) is not None:
            file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
