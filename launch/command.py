"""The command that a launch starts on every host."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxmerge.errors import InputError, unknown

EXAMPLE = "jaxmerge launch TARGET.yaml -- evolve CONFIG.yaml OUT"
# The commands whose work is divided among processes; each of the others would do all of it in every process.
DIVIDED = ("evolve", "demo")


@dataclass(frozen=True)
class Command:
    """words: the program and its arguments, as a shell would pass them. ours: whether the program is jaxmerge."""

    words: tuple[str, ...]
    ours: bool

    @classmethod
    def parse(cls, words: Sequence[str], known: Sequence[str]) -> "Command":
        """known: jaxmerge's subcommands, which may stand without `jaxmerge` before them. Raises InputError."""
        named = bool(words) and words[0] == "jaxmerge"
        rest = tuple(words[1:] if named else words)
        if not rest or not rest[0]:
            raise InputError(f"launch: there is no command after '--'; write for instance: {EXAMPLE}")
        if rest[0] == "launch":
            raise InputError("launch: the command is 'launch' itself; name what it shall start, such as evolve")
        if rest[0] in known or (named and rest[0].startswith("-")):
            return cls(("jaxmerge", *rest), True)
        if named:
            raise unknown("command", rest[0], known, "launch: jaxmerge")
        return cls(rest, False)

    def require_divisible(self, processes: int) -> None:
        """Raises InputError where so many processes would all do the same work and write the same files."""
        subcommand = self.words[1] if self.ours else ""
        if processes > 1 and self.ours and not subcommand.startswith("-") and subcommand not in DIVIDED:
            raise InputError(
                f"launch: '{subcommand}' runs in one process, and the target has {processes}; only "
                f"{' and '.join(DIVIDED)} divide their work: take a target of one process, or leave launch out"
            )
