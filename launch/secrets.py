"""What must not be written into a command, a script or a YAML that is sent somewhere."""

import re
from collections.abc import Iterable

# Access tokens as their issuers make them.
SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bhf_[A-Za-z0-9]{16,}",
        r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}",
        r"\bgh[pousr]_[A-Za-z0-9]{16,}",
        r"\bgithub_pat_[A-Za-z0-9_]{16,}",
        r"\bglpat-[A-Za-z0-9_-]{16,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bAIza[A-Za-z0-9_-]{30,}",
        r"\bya29\.[A-Za-z0-9_-]{16,}",
        r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
        r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
        r"://[^/\s:@]+:[^/\s@]+@",
    )
)
# Names whose values are secrets, whatever they look like.
NAMED = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(?:API|ACCESS|PRIVATE|SECRET)_?KEY)$", re.I)


def is_secret(value: str, name: str = "") -> bool:
    """Whether a value looks like a token, or is that of a variable named like one. A file's path is not a secret."""
    if any(shape.search(value) for shape in SHAPES):
        return True
    return bool(value) and bool(NAMED.search(name)) and not value.startswith(("/", "~", "./"))


def first_secret(words: Iterable[str]) -> int | None:
    """The place of the first word that looks like a token."""
    return next((place for place, word in enumerate(words) if is_secret(word)), None)
