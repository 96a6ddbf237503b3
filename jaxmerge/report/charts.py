"""The report's pictures: search curve, recipe, scores. Each is drawn at a given width in CSS pixels."""

import math
from collections.abc import Sequence
from typing import Any
from unicodedata import east_asian_width

from jaxmerge.report.curves import Curve, Spread
from jaxmerge.report.run_data import RecipeTable
from jaxmerge.report.scale import Scale
from jaxmerge.report.standings import Standing
from jaxmerge.report.svg import COLOURS, figure, inline

_FONT = 12
# The mean width of a letter of DejaVu Sans, in font sizes; most other fonts are narrower.
_LETTER = 0.62


def search_curve(
    best: Curve, population: Spread, control: Curve, baseline: float | None, scale: Scale, width: int, name: str
) -> str:
    """Best so far and the population's spread over the candidates evaluated; random search and the best
    untuned merge (a level) for comparison."""
    left, right, top, bottom, height = 52, 20, 12, 44, 300
    with figure(width, height) as drawing:
        axes = _axes(drawing, left, right, top, bottom)
        if len(population.x):
            axes.fill_between(
                population.x, population.low, population.high, color=COLOURS["evolved"], alpha=0.16, linewidth=0
            )
            axes.plot(population.x, population.middle, color=COLOURS["evolved"], linewidth=1.2, alpha=0.6)
        if baseline is not None:
            axes.axhline(baseline, color=COLOURS["untuned"], linewidth=1.5, linestyle=(0, (1, 2.5)))
        if len(control.x):
            axes.step(
                control.x, control.best, where="post", color=COLOURS["random"], linewidth=2, linestyle=(0, (5, 2))
            )
        if len(best.x):
            axes.step(best.x, best.best, where="post", color=COLOURS["evolved"], linewidth=2.4)
        axes.set_xlim(0, max([1, *best.x[-1:], *control.x[-1:]]))
        axes.margins(y=0.06)
        axes.set_xlabel("candidates evaluated", fontsize=_FONT)
        axes.yaxis.grid(True)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="y", nbins=6)
        axes.locator_params(axis="x", nbins=4 if width < 500 else 8, integer=True)
        if scale.share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%".replace("-", "−"))
        return inline(drawing, name, "Search score over the candidates evaluated")


def scores(rows: Sequence[Standing], scale: Scale, width: int, name: str) -> str:
    """The test scores with their 95% intervals: bars from 0 for shares, else points. Rows without one are left out."""
    tested = [row for row in rows if row.test is not None]
    row_height, left, right, top, bottom = 46, 12, 18, 8, 30
    height = row_height * len(tested) + top + bottom
    with figure(width, height) as drawing:
        axes = _axes(drawing, left, right, top, bottom)
        for place, row in enumerate(tested):
            colour = COLOURS[row.kind]
            assert row.test is not None
            if scale.share:
                axes.barh(place, row.test, height=0.34, color=colour)
            else:
                axes.plot([row.test], [place], marker="o", markersize=8, color=colour, zorder=3)
            if row.interval is not None:
                axes.hlines(place, *row.interval, color=COLOURS["ink"], linewidth=1.4)
                axes.vlines(row.interval, place - 0.1, place + 0.1, color=COLOURS["ink"], linewidth=1.4)
            # The name stands above its bar, so that a long one needs no margin.
            axes.annotate(
                f"{_short(row.name, int((width - 90) / (_FONT * _LETTER)))} · {scale.score(row.test)}",
                xy=(0, place - 0.3),
                xycoords=("axes fraction", "data"),
                verticalalignment="bottom",
                fontsize=_FONT,
                fontweight="bold" if row.kind == "evolved" else "normal",
            )
        axes.set_ylim(len(tested) - 0.5, -0.75)
        if scale.share:
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        axes.margins(x=0.04)
        axes.locator_params(axis="x", nbins=4 if width < 500 else 8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.grid(True)
        axes.set_axisbelow(True)
        return inline(drawing, name, "Test scores with 95% intervals")


def recipe(table: RecipeTable, parameter: str, name: str) -> str:
    """One parameter as a heat map, groups down and experts across, with the numbers in the cells."""
    rows = table.parameters[parameter]
    columns = table.experts if len(rows[0]) == len(table.experts) else ("all",) * len(rows[0])
    largest = max((abs(v) for row in rows for v in row if math.isfinite(v)), default=0) or 1
    groups = [_short(group, 20) for group in table.groups]
    heading = [_short(column, 10) for column in columns]
    label = max(map(_width, groups)) + 12
    cell = max(54, *(_width(text) + 8 for text in heading))
    row_height, top = 26, 26
    width, height = math.ceil(label + cell * len(columns)), top + row_height * len(rows)
    with figure(width, height) as drawing:
        axes = drawing.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        for k, text in enumerate(heading):
            axes.text(label + (k + 0.5) * cell, top / 2, text, color=COLOURS["quiet"], ha="center", va="center")
        for g, (group, row) in enumerate(zip(groups, rows, strict=True)):
            middle = top + (g + 0.5) * row_height
            axes.text(label - 10, middle, group, color=COLOURS["quiet"], ha="right", va="center")
            for k, value in enumerate(row):
                _cell(axes, label + k * cell, top + g * row_height, cell, row_height, value, largest)
        return inline(drawing, name, f"{parameter} by group and expert")


def _axes(drawing: Any, left: float, right: float, top: float, bottom: float) -> Any:
    """Axes within these margins, in pixels."""
    width, height = (float(side) * 72 for side in drawing.get_size_inches())
    return drawing.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))


def _cell(axes: Any, x: float, y: float, width: float, height: float, value: float, largest: float) -> None:
    from matplotlib.patches import Rectangle

    # Strength by opacity keeps the number readable on either background.
    strength = 0.72 * min(abs(value) / largest, 1) if math.isfinite(value) else 0
    colour = COLOURS["more" if value >= 0 else "less"]
    axes.add_patch(Rectangle((x + 1, y + 1), width - 2, height - 2, facecolor=colour, alpha=strength, linewidth=0))
    axes.text(x + width / 2, y + height / 2, f"{value:.2f}".replace("-", "−"), ha="center", va="center")


def _width(text: str) -> float:
    """About how wide the text is, in pixels; East Asian letters are square."""
    return sum(_FONT * (1 if east_asian_width(letter) in "WF" else _LETTER) for letter in text)


def _short(text: str, length: int) -> str:
    """The text, its middle left out where it is longer."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return text[: length - 1 - half] + "…" + text[len(text) - half :]
