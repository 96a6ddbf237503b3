"""A drawing as a file of its own, in the style of the report's page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.report.genomes import SHADES
from jaxmerge.report.svg import tag, text

WIDTH = 860
_LEFT, _RIGHT, _TOP, _HEADING = 150, 40, 16, 34


@dataclass(frozen=True)
class Panel:
    """A heading, and a frame with what it needs: pixels from its top to the end of its labels."""

    heading: str
    frame: str
    height: int


def picture(label: str, panels: Sequence[Panel]) -> str:
    """The panels one below the other as an SVG document. label: what a screen reader says."""
    parts, y = [], _TOP
    for panel in panels:
        parts.append(text(panel.heading, x=_LEFT, y=y + 16, class_="heading"))
        y += _HEADING
        parts.append(
            tag("svg", panel.frame, x=_LEFT, y=y, width=WIDTH - _LEFT - _RIGHT, height=panel.height, overflow="visible")
        )
        y += panel.height + _TOP
    return tag(
        "svg",
        tag("style", _style()),
        tag("rect", width="100%", height="100%", style="fill: var(--paper)"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {y}",
        width=WIDTH,
        height=y,
        role="img",
        aria_label=label,
    )


def _style() -> str:
    from jinja2 import Environment, FileSystemLoader

    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=False)
    sheet = page.get_template("style.css.jinja").render(shades=SHADES)
    # `>` may stand in the text of an element, `<` and `&` may not; the sheet has neither.
    return sheet + "\ntext { font-family: system-ui, sans-serif; }\n.heading { font-size: 15px; fill: var(--ink); }\n"
