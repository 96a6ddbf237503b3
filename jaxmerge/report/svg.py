"""matplotlib figures as inline SVG that takes its colours and its font from the page.

Colours are drawn as placeholders and replaced by the page's CSS variables, so that one picture serves light and dark.
Text stays text. Nothing in the result refers outside it.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

# Names of the page's CSS variables, and the placeholder each is drawn as.
_VARIABLES = ("ink", "quiet", "line", "paper", "parent", "untuned", "random", "evolved", "more", "less")
COLOURS = {name: f"#a1b2{number:02x}" for number, name in enumerate(_VARIABLES)}


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """A matplotlib Figure of `width` x `height` CSS pixels, on which one point is one pixel."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "jaxmerge",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 12,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["quiet"],
        "axes.edgecolor": COLOURS["line"],
        "axes.linewidth": 1,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": COLOURS["line"],
        "xtick.labelcolor": COLOURS["quiet"],
        "ytick.color": COLOURS["line"],
        "ytick.labelcolor": COLOURS["quiet"],
        "xtick.major.size": 4,
        "ytick.major.size": 0,
        "grid.color": COLOURS["line"],
        "grid.linewidth": 1,
    }
    with rc_context(settings), warnings.catch_warnings():
        # The page's fonts draw the text; that matplotlib's own lacks a glyph does not matter.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        yield Figure(figsize=(width / 72, height / 72), dpi=72)


def inline(drawing: Any, name: str, label: str) -> str:
    """The figure as an `<svg>` element. name: unique on the page. label: what a screen reader says."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    for variable, placeholder in COLOURS.items():
        body = body.replace(placeholder, f"var(--{variable})")
    # The families are the page's; a size alone is left of each `font` shorthand.
    body = re.sub(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*", _font, body)
    width, height = (round(float(side) * 72) for side in drawing.get_size_inches())
    # A picture shrinks a little on a narrow screen; beyond that its letters are too small, and it scrolls.
    opening = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="min-width: {0.8 * width:g}px" role="img" aria-label="{escape(label, quote=True)}">'
    )
    return opening + body[body.index(">") + 1 :].strip()


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px"
