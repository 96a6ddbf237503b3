"""The picture of how two checkpoints differ: modules over layers, and what stands outside of the layers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxmerge.merging.kinship import LAYER
from jaxmerge.report.picture import Panel, picture
from jaxmerge.report.recipes import heat_map, short
from jaxmerge.report.run_data import RecipeTable
from jaxmerge.report.svg import Frame, percent, tag, text, title

MEASURE = "relative L2"
_BAR, _CHARACTERS = 24, 20


def draw(difference: Mapping[str, Any]) -> str:
    """An SVG document of what `merging.difference.diff` found: ||b - a|| / ||a|| of every tensor, by strength of colour
    in the layers and as bars outside of them. The numbers show where the pointer rests."""
    inside: dict[str, dict[int, float]] = {}
    outside: dict[str, float] = {}
    for tensor in difference["tensors"]:
        # What differs from zeros is no share of them, and is drawn as nothing.
        value = math.nan if tensor["relative"] is None else tensor["relative"]
        layer = LAYER.search(tensor["name"])
        if layer is None:
            outside[tensor["name"]] = value
        else:
            inside.setdefault(tensor["name"][layer.end() :], {})[int(layer[1])] = value
    panels = [_layers(inside)] if inside else []
    panels += [_bars(outside)] if outside else []
    return picture(f"How far {difference['b']} is from {difference['a']}: {MEASURE} by tensor", panels)


def _layers(modules: Mapping[str, Mapping[int, float]]) -> Panel:
    numbers = sorted({layer for values in modules.values() for layer in values})
    rows = [[values.get(layer, math.nan) for layer in numbers] for values in modules.values()]
    names = tuple(name.removesuffix(".weight") for name in modules)
    columns = tuple(tuple(column) for column in zip(*rows, strict=True))
    table = RecipeTable(tuple(map(str, numbers)), names, {MEASURE: columns})
    largest = max((value for row in rows for value in row if math.isfinite(value)), default=0.0)
    heading = f"{MEASURE} by layer, the strongest colour {largest:.3g}"
    return Panel(heading, heat_map(table, MEASURE, _CHARACTERS), 30 * len(names) + 30)


def _bars(tensors: Mapping[str, float]) -> Panel:
    values = [value for value in tensors.values() if math.isfinite(value)]
    frame = Frame((0.0, max(values, default=0.0) or 1.0), (0.0, 1.0), _BAR * len(tensors))
    for row, (name, value) in enumerate(tensors.items()):
        frame.add(*_bar(frame, row, name, value))
    return Panel(f"{MEASURE} outside of the layers", frame.svg(f"{MEASURE} outside of the layers"), frame.height)


def _bar(frame: Frame, row: int, name: str, value: float) -> Sequence[str]:
    label, middle = short(name.removesuffix(".weight"), _CHARACTERS), _BAR * (row + 0.5)
    share = frame.across(value) * 0.9 if math.isfinite(value) else 0.0
    return (
        tag("g", title(name), text(label, x="-10", y=middle, dy=".33em", class_="tick end")),
        tag("rect", title(f"{name}: {value:.4g}"), x="0", width=percent(share), y=middle - 7, height=14, class_="more"),
        text("–" if math.isnan(value) else f"{value:.3g}", x=percent(share), dx="6", y=middle, dy=".33em"),
    )
