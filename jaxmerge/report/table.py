"""The result of a run as a table for the terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxmerge.report.scale import Scale
from jaxmerge.report.standings import LABELS, standings, verdict

if TYPE_CHECKING:
    from rich.table import Table


def result_table(summary: Mapping[str, Any], config: Mapping[str, Any]) -> "Table":
    """Parents, untuned merges, random search and the evolved merge, with the verdict below.

    summary: as in `summary.json`. config: the run's resolved config. Print it with `rich.console.Console().print`.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    scale = Scale.of(config)
    gain, certainty = verdict(summary, scale)
    table = Table(box=SIMPLE_HEAD, caption=Text(f"{gain} {certainty}"), caption_justify="left", caption_style="")
    table.add_column("model", overflow="fold")
    table.add_column("")
    for heading in ("search", "test", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = standings(summary, config)
    for place, row in enumerate(rows):
        last = place + 1 == len(rows) or rows[place + 1].kind != row.kind
        # As Text: a name may hold brackets, which rich would read as markup.
        table.add_row(
            Text(row.name),
            Text(LABELS[row.kind], style="dim"),
            scale.score(row.search),
            scale.score(row.test),
            scale.interval(row.interval),
            style="bold" if row.kind == "evolved" else None,
            end_section=last,
        )
    return table
