"""How scores are written for people: shares as percentages, likelihoods in nats, everything else as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# Kinds of objectives whose score lies in [0, 1].
_SHARES = frozenset({"choice", "generate", "caption", "classify"})

Interval = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """unit: of the scores; "" where they are of mixed or unknown kinds."""

    unit: Literal["share", "nats", ""]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Scale":
        kinds = {o.get("kind") for o in config.get("objectives") or [] if isinstance(o, Mapping)}
        if kinds and kinds <= _SHARES:
            return cls("share")
        return cls("nats" if kinds and kinds <= {"likelihood", "entropy"} else "")

    @property
    def share(self) -> bool:
        """Whether every score lies in [0, 1]."""
        return self.unit == "share"

    def score(self, value: float | None) -> str:
        """`55.8%` or `−1.2345`; a dash where there is none."""
        if value is None:
            return "–"
        return self._number(value) + ("%" if self.share else "")

    def difference(self, value: float) -> str:
        """`+15.4 points`, `+0.0123 nats`, `+0.0123`."""
        unit = {"share": " points", "nats": " nats", "": ""}[self.unit]
        return ("+" if value > 0 else "") + self._number(value) + unit

    def interval(self, interval: Interval | None) -> str:
        """`52.1 to 59.9`, in the unit of the score beside it."""
        return "–" if interval is None else f"{self._number(interval[0])} to {self._number(interval[1])}"

    def _number(self, value: float) -> str:
        text = f"{100 * value:.1f}" if self.share else f"{value:.4f}"
        # No negative zero, and a true minus sign, as wide as the plus.
        return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
