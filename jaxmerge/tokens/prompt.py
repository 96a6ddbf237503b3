"""From an example's fields to the text a model reads, and to the tokens that count."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxmerge.errors import InputError
from jaxmerge.tokens.tokenizer import Tokenizer

# An identifier in braces. Where it is the argument of a TeX command, as in \boxed{x}, \frac{a}{b} or x^{n},
# it is text unless the data has such a field.
_FIELD = re.compile(r"(?P<tex>\\[A-Za-z]+(?:\{[^{}]*\})*|[\^_])?\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


def fill(template: str, fields: Mapping[str, Any], where: str) -> str:
    """Replace each `{field}` of a template by the example's value; other braces stay as they are.

    Numbers, lists and objects are written as JSON. where: names key and line for the error.
    Raises InputError for a field that the example lacks or that is null.
    """

    def value(match: re.Match[str]) -> str:
        name, tex = match["name"], match["tex"] or ""
        if name not in fields:
            if tex:
                return match[0]
            raise InputError(f"{where}: no field '{name}'; the data has: {', '.join(fields) or 'none'}")
        if fields[name] is None:
            raise InputError(f"{where}: field '{name}' is null; give it a value or leave the line out")
        given = fields[name]
        return tex + (given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))

    return _FIELD.sub(value, template)


def sole_field(template: str, fields: Mapping[str, Any]) -> Any:
    """The value itself where a template is one known field and nothing else, such as "{choices}"; else
    None."""
    match = _FIELD.fullmatch(template.strip())
    return fields.get(match["name"]) if match and not match["tex"] else None


@dataclass(frozen=True)
class PromptFormat:
    """How prompts are put together.

    shots: solved examples as (prompt, answer) texts, put before the prompt: joined by blank lines, or as
    turns of the conversation where chat is True. system: the system message of the chat template."""

    chat: bool = False
    system: str | None = None
    shots: Sequence[tuple[str, str]] = ()

    def text(self, tokenizer: Tokenizer, prompt: str) -> str:
        if not self.chat:
            return "".join(f"{question}{answer}\n\n" for question, answer in self.shots) + prompt
        messages = [{"role": "system", "content": self.system}] if self.system is not None else []
        for question, answer in self.shots:
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer.strip()},
            ]
        return tokenizer.chat([*messages, {"role": "user", "content": prompt}])


def encode_prompts(tokenizer: Tokenizer, prompts: list[str], *, special: bool) -> list[list[int]]:
    """The tokens that generation starts from."""
    return tokenizer.encode_all(prompts, special=special)


def encode_answers(
    tokenizer: Tokenizer, pairs: list[tuple[str, str]], *, special: bool
) -> list[tuple[list[int], int]]:
    """Tokens of prompt + answer, and the place of the first token that counts as the answer's.

    The two are joined as text. The boundary moves left over white space at the prompt's end, because
    tokenizers attach a space to the word after it; the answer's tokens are those beyond the number of tokens
    of the prompt alone (as EleutherAI's lm-evaluation-harness counts them). Tokens that the tokenizer puts
    behind a text never count. The first token has nothing before it to be predicted from: the place is at
    least 1."""
    behind = tokenizer.affixes[1] if special else 0
    alone = tokenizer.encode_all([prompt.rstrip() for prompt, _ in pairs], special=special)
    whole = tokenizer.encode_all([prompt + answer for prompt, answer in pairs], special=special)
    return [
        (both[: len(both) - behind], max(1, len(prompt) - behind))
        for prompt, both in zip(alone, whole, strict=True)
    ]
