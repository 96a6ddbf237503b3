"""Progress on stderr: a bar for counted work, and the live line of a search (stage, generation, best, time left).

Without a terminal a bar is silent: what a log holds of a command that fails is its one line.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmerge.search.progress import Progress


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is called with what is done and what there is; it pulses until then, and is silent without a
    terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(description, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


@contextmanager
def shown() -> Iterator[Callable[["Progress"], None]]:
    """A report for the search that keeps one line on stderr up to date; without a terminal, a line every tenth step."""
    if not sys.stderr.isatty():
        yield _log
        return
    from rich.console import Console
    from rich.text import Text

    def text(progress: "Progress") -> Text:
        # As Text, for a stage's name may hold brackets, which rich would read as markup.
        return Text(line(progress), no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    with console.status("loading") as status:

        def report(progress: "Progress") -> None:
            if progress.note:
                console.print(Text(progress.note))
            status.update(text(progress))

        yield report


def _log(progress: "Progress") -> None:
    if progress.note:
        print(progress.note, file=sys.stderr, flush=True)
    # A step that is not counted (loading, export) is for eyes: a log gets figures only, and the line of an error.
    if not progress.done and progress.total is None:
        return
    every = max(1, (progress.total or 100) // 10)
    if progress.done % every == 0 or progress.done == progress.total:
        print(line(progress), file=sys.stderr, flush=True)


def line(progress: "Progress") -> str:
    """`search 12/40 · best 0.6120 · mean 0.5031 · 5.1 candidates/s · 1:48 left`."""
    # A step that is not counted (loading, export) is only named.
    done = f" {progress.done}" if progress.done or progress.total else ""
    parts = [progress.stage + done + (f"/{progress.total}" if progress.total else "")]
    if progress.best is not None:
        parts.append(f"best {progress.best:.4f}")
    if progress.mean is not None:
        parts.append(f"mean {progress.mean:.4f}")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.rate is not None:
        parts.append(f"{progress.rate:.3g} candidates/s")
    if progress.left is not None:
        minutes, seconds = divmod(round(progress.left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return " · ".join(parts)
