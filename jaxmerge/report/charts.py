"""The pictures of the answer and of the search: gains, scores, and the course of the search."""

from collections.abc import Sequence

from jaxmerge.report.curves import Curve, Spread
from jaxmerge.report.scale import Interval, Scale
from jaxmerge.report.svg import Frame, number, percent, tag, text, ticks, title


def search_curve(best: Curve, population: Spread, control: Curve, baseline: float | None, scale: Scale) -> str:
    """Best so far and the population's spread over the candidates evaluated; random search and the best untuned
    merge (a level) for comparison."""
    values = [float(v) for v in (*population.low, *population.high, *best.best, *control.best)]
    values += [] if baseline is None else [baseline]
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.01
    low = low - room if low < 0 or not scale.share else max(0.0, low - room)
    last = max([1.0, *(float(x) for x in (*best.x[-1:], *control.x[-1:]))])
    frame = Frame((0.0, last), (low, high + room), 300)
    marks = ticks(low, high + room, 6)
    for value in marks:
        frame.rule(value, axis_label(value, marks, scale))
    for value in ticks(0, last, 5):
        frame.mark(value, f"{value:,.0f}".replace(",", " "))
    if len(population.x):
        frame.band(population.x, population.low, population.high, "band evolved")
        frame.line(population.x, population.middle, "evolved thin")
    labels = []
    if baseline is not None:
        frame.line((0, last), (baseline, baseline), "untuned dotted")
        labels.append((baseline, f"best untuned {scale.score(baseline)}", "untuned"))
    if len(control.x):
        frame.line(control.x, control.best, "random dashed", steps=True)
        labels.append((float(control.best[-1]), f"random search {scale.score(float(control.best[-1]))}", "random"))
    if len(best.x):
        frame.line(best.x, best.best, "evolved thick", steps=True)
        labels.append((float(best.best[-1]), f"evolved {scale.score(float(best.best[-1]))}", "evolved strong"))
    frame.labels_at_the_end(labels)
    return frame.svg("Search score over the candidates evaluated", below=26)


def axis_label(value: float, marks: Sequence[float], scale: Scale) -> str:
    """A tick's label with as many decimals as its neighbours need."""
    if scale.share:
        return f"{100 * value:.4g}%".replace("-", "−")
    step = abs(marks[1] - marks[0]) if len(marks) > 1 else 1.0
    decimals = next((n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 6)
    return f"{value:.{decimals}f}".replace("-", "−")


def extent(intervals: Sequence[Interval], *, zero: bool) -> Interval:
    """What a row of strips has to show, with a little room. zero: whether 0 must be in it."""
    low, high = min(i[0] for i in intervals), max(i[1] for i in intervals)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.04 * (high - low) or 0.01
    return low - (room if low < 0 or not zero else 0), high + room


def strip(value: float, interval: Interval, within: Interval, class_: str, *, zero: bool, bar: bool, note: str) -> str:
    """One score or difference with its interval on a line of its own. bar: drawn from 0."""
    height, middle = 22, 11.0
    frame = Frame(within, (0, 1), height)
    at = {name: frame.across(v) for name, v in (("low", interval[0]), ("high", interval[1]), ("value", value))}
    if bar:
        start, end = sorted((frame.across(0.0), at["value"]))
        frame.add_behind(
            tag("rect", x=percent(start), width=percent(end - start), y="5", height="12", class_=f"bar {class_}")
        )
    if zero:
        x = percent(frame.across(0.0))
        frame.add_behind(tag("line", x1=x, x2=x, y1="0", y2=height, class_="zero"))
    whisker = "whisker" if bar else f"whisker {class_}"
    frame.add(tag("line", x1=percent(at["low"]), x2=percent(at["high"]), y1=middle, y2=middle, class_=whisker))
    for end_ in (at["low"], at["high"]):
        frame.add(tag("line", x1=percent(end_), x2=percent(end_), y1="7", y2="15", class_=whisker))
    if not bar:
        frame.add(tag("circle", title(note), cx=percent(at["value"]), cy=middle, r="5", class_=f"dot {class_}"))
    return frame.svg(note)


def labelled(content: str, x: float, y: float, class_: str, turned: int = 0) -> str:
    """A text at percent across and pixels down; turned by degrees, it hangs down to the left of its place."""
    if not turned:
        return text(content, x=percent(x), y=y, class_=class_)
    inner = text(content, transform=f"rotate({-turned})", class_=class_)
    return tag("svg", inner, x=percent(x), y=number(y), width="1", height="1", overflow="visible")
