"""The pictures of a recipe: a parameter over experts and layers, and the path of a data flow."""

import math
from collections.abc import Sequence

from jaxmerge.report.charts import labelled
from jaxmerge.report.run_data import Hop, RecipeTable
from jaxmerge.report.svg import Frame, percent, tag, text, ticks, title

_ROW = 30
# With more columns than this the numbers in the cells could not be read.
_NUMBERED = 12
# As many labels as stand below a map or a diagram.
_LABELS = 14
# The page has this many colours for models; more begin again.
MODEL_COLOURS = 6


def heat_map(table: RecipeTable, parameter: str, characters: int = 11) -> str:
    """One parameter, experts down and groups across: strength of colour by size, blue above 0, orange below.
    characters: of an expert's name, for which there is room at the left."""
    rows = list(zip(*table.parameters[parameter], strict=True))
    names = table.experts if len(rows) == len(table.experts) else ("all",) * len(rows)
    count = len(table.groups)
    largest = max((abs(v) for row in rows for v in row if math.isfinite(v)), default=0) or 1
    frame = Frame((0, count), (0, 1), _ROW * len(rows))
    for k, (name, row) in enumerate(zip(names, rows, strict=True)):
        label = text(short(name, characters), x="-10", y=_ROW * (k + 0.5), dy=".33em", class_="tick end")
        frame.add_behind(tag("g", title(name), label))
        for g, value in enumerate(row):
            frame.add(_cell(frame, g, k, value, largest, f"{name}, {table.groups[g]}: {value:.4g}"))
            if count <= _NUMBERED and math.isfinite(value):
                shown = f"{value:.2f}".replace("-", "−")
                place = {"x": percent(frame.across(g + 0.5)), "y": _ROW * (k + 0.5), "dy": ".33em"}
                frame.add(text(shown, class_=f"cell middle{' many' if count > 6 else ''}", **place))
    labels = [_group_label(name) for name in table.groups]
    longest = min(16, max(map(len, labels)))
    turned = 55 if longest > 5 else 0
    every = math.ceil(count / _LABELS)
    for g, label in enumerate(labels):
        # Above a few, layers are counted like a ruler; what is no layer keeps its name.
        if g % every and (label.isdigit() or turned):
            continue
        y = frame.height + (14.0 if turned else 18.0)
        frame.add_behind(
            labelled(short(label, 16), frame.across(g + 0.5), y, f"tick {'end' if turned else 'middle'}", turned)
        )
    return frame.svg(f"{parameter} by expert and group", below=20 + 5 * longest if turned else 24)


def path(hops: Sequence[Hop], models: Sequence[str]) -> str:
    """The layers that a token passes: hops across, layers up, a colour a model."""
    deepest = max(hop.layer for hop in hops)
    frame = Frame((-0.5, len(hops) - 0.5), (-0.6, deepest + 0.6), max(150, min(320, 14 * (deepest + 2))))
    for value in ticks(0, deepest, 6):
        if value == int(value):
            frame.rule(value, f"{value:.0f}")
    for value in ticks(0, len(hops) - 1, 8):
        if value == int(value):
            frame.mark(value, f"{value:.0f}")
    frame.line(range(len(hops)), [hop.layer for hop in hops], "quiet thin")
    radius = 6 if len(hops) <= 40 else 4 if len(hops) <= 80 else 3
    for place, hop in enumerate(hops):
        colour = f"model-{models.index(hop.model) % MODEL_COLOURS}"
        scale = "" if hop.scale is None else f", scale {hop.scale:.4g}"
        frame.point(place, hop.layer, radius, f"dot {colour}", f"hop {place}: {hop.model}, layer {hop.layer}{scale}")
    return frame.svg("Path of the data flow: the layer of each hop", below=26)


def path_scales(hops: Sequence[Hop], models: Sequence[str]) -> str:
    """The scale of each hop's input, as bars from 1."""
    scales = [1.0 if hop.scale is None else hop.scale for hop in hops]
    low, high = min(*scales, 0.95), max(*scales, 1.05)
    frame = Frame((-0.5, len(hops) - 0.5), (low, high), 90)
    for value in sorted({low, 1.0, high}):
        if value == 1 or abs(frame.down(value) - frame.down(1.0)) > 14:
            frame.rule(value, f"{value:.2f}", "zero" if value == 1 else "grid")
    for place, (hop, scale) in enumerate(zip(hops, scales, strict=True)):
        top, bottom = sorted((frame.down(scale), frame.down(1.0)))
        frame.add(
            tag(
                "rect",
                title(f"hop {place}: {scale:.4g}"),
                x=percent(frame.across(place - 0.32)),
                width=percent(0.64 / len(hops)),
                y=top,
                height=max(1.0, bottom - top),
                class_=f"bar model-{models.index(hop.model) % MODEL_COLOURS}",
            )
        )
    return frame.svg("Scale of each hop", below=6)


def short(content: str, length: int) -> str:
    """The text, its middle left out where it is longer."""
    if len(content) <= length:
        return content
    half = (length - 1) // 2
    return content[: length - 1 - half] + "…" + content[len(content) - half :]


def _cell(frame: Frame, column: int, row: int, value: float, largest: float, note: str) -> str:
    # Strength by opacity keeps the number readable on either background.
    strength = 0.78 * min(abs(value) / largest, 1) if math.isfinite(value) else 0
    return tag(
        "rect",
        title(note),
        x=percent(frame.across(column)),
        width=percent(1 / (frame.x[1] - frame.x[0])),
        y=_ROW * row + 1,
        height=_ROW - 2,
        fill_opacity=strength + 0.03,
        class_="more" if value >= 0 else "less",
    )


def _group_label(name: str) -> str:
    return "emb" if name == "embed_tokens" else name.removeprefix("layers.")
