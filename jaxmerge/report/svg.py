"""SVG as text: elements, numbers, and a frame whose width is that of the page it lies in.

Across, a drawing is measured in percent of its width, down in pixels, so that one drawing fits a screen and a phone
and its letters keep their size. Curves lie in an inner picture that is stretched; their strokes are not. Colours are
classes or CSS variables of the page, which has a light and a dark set.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

Values = Sequence[float] | np.ndarray

# The units across the stretched inner picture.
_ACROSS = 1000


def tag(name: str, *children: str, **attributes: Any) -> str:
    """An element as text. children: markup. attributes: `class_` is `class`, `stroke_width` is `stroke-width`; numbers
    are rounded to hundredths; None is left out. Values are escaped."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = "".join(f' {key}="{escape(_value(value), quote=True)}"' for key, value in given.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(content: str, **attributes: Any) -> str:
    """A `<text>` element; its content is escaped."""
    return tag("text", escape(content), **attributes)


def title(content: str) -> str:
    """What is shown where the pointer rests on the element it stands in."""
    return tag("title", escape(content))


def percent(share: float) -> str:
    return f"{number(100 * share)}%"


def number(value: float) -> str:
    """To hundredths, without trailing zeros."""
    rounded = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if rounded in ("-0", "") else rounded


def _value(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], at most `most` and evenly spaced by 1, 2, 2.5 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [place * step for place in range(first, last + 1)]
    return []


@dataclass
class Frame:
    """A drawing in the making. x, y: the values at its left and right, bottom and top. height: pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int
    _behind: list[str] = field(default_factory=list)
    _stretched: list[str] = field(default_factory=list)
    _front: list[str] = field(default_factory=list)

    def across(self, value: float) -> float:
        """Where a value lies, from 0 at the left to 1."""
        low, high = self.x
        return (value - low) / (high - low) if high > low else 0.5

    def down(self, value: float) -> float:
        """Where a value lies, in pixels from the top."""
        low, high = self.y
        return self.height * (1 - ((value - low) / (high - low) if high > low else 0.5))

    def rule(self, value: float, label: str, class_: str = "grid") -> None:
        """A level line with its label at the left."""
        y = self.down(value)
        self._behind.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_=class_))
        self._behind.append(text(label, x="-10", y=y, dy=".33em", class_="tick end"))

    def mark(self, value: float, label: str) -> None:
        """A label below the drawing, with a small stroke."""
        x = percent(self.across(value))
        self._behind.append(tag("line", x1=x, x2=x, y1=self.height, y2=self.height + 5, class_="grid"))
        self._behind.append(text(label, x=x, y=self.height + 20, class_="tick middle"))

    def line(self, xs: Values, ys: Values, class_: str, steps: bool = False) -> None:
        """A line through the points; as steps it keeps each value up to the next point."""
        self._stretched.append(tag("path", d=self._path(xs, ys, steps), class_=f"line {class_}"))

    def band(self, xs: Values, low: Values, high: Values, class_: str) -> None:
        """The area between two curves."""
        there, back = self._path(xs, high, False), self._path(xs[::-1], low[::-1], False)
        self._stretched.append(tag("path", d=f"{there}L{back[1:]}Z", class_=class_))

    def point(self, x: float, y: float, radius: float, class_: str, note: str | None = None) -> None:
        inner = () if note is None else (title(note),)
        self._front.append(
            tag("circle", *inner, cx=percent(self.across(x)), cy=self.down(y), r=float(radius), class_=class_)
        )

    def add(self, *elements: str) -> None:
        """Elements in front of all that is there, in percent across and pixels down."""
        self._front += elements

    def add_behind(self, *elements: str) -> None:
        self._behind += elements

    def labels_at_the_end(self, labels: Iterable[tuple[float, str, str]]) -> None:
        """(value, text, class) at the right edge, above the lines they belong to and apart from each other."""
        lowest = float(self.height) - 4
        places = []
        for value, content, class_ in sorted(labels):
            lowest = min(self.down(value) - 7, lowest)
            places.append((lowest, content, class_))
            lowest -= 17
        push = max(0.0, 12 - min((y for y, _, _ in places), default=12.0))
        for y, content, class_ in places:
            self.add(text(content, x="100%", y=y + push, dx="-2", class_=f"label end {class_}"))

    def svg(self, label: str, below: int = 0) -> str:
        """The whole as an `<svg>` element. label: what a screen reader says. below: pixels that labels need there."""
        inner = tag(
            "svg",
            *self._stretched,
            viewBox=f"0 0 {_ACROSS} {self.height}",
            preserveAspectRatio="none",
            width="100%",
            height=self.height,
            overflow="visible",
        )
        return tag(
            "svg",
            *self._behind,
            *([inner] if self._stretched else []),
            *self._front,
            class_="frame",
            width="100%",
            height=self.height + below,
            role="img",
            aria_label=label,
        )

    def _path(self, xs: Values, ys: Values, steps: bool) -> str:
        points = [(round(_ACROSS * self.across(x), 1), round(self.down(y), 1)) for x, y in zip(xs, ys, strict=True)]
        if not points:
            return "M0 0"
        joint = "H" if steps else "L"
        parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
        parts += [f"H{x:g}V{y:g}" if joint == "H" else f"L{x:g} {y:g}" for x, y in points[1:]]
        return "".join(parts)
