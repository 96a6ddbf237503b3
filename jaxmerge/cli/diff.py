"""`jaxmerge diff`: how two checkpoints differ, tensor by tensor."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

# Columns of the table where no terminal limits them.
UNFOLDED = 200


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder, a hub id (org/name@revision), or model+lora.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another; differences are B - A.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only, equal tensors too.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the relative differences.")] = None,
) -> None:
    """Show how two checkpoints differ, tensor by tensor: cosine, relative L2, largest difference, share of equals."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.merging.difference import diff

    if plot is not None:
        _require_drawable(plot)
    with bar("Reading tensors") as progress:
        found = diff(a, b, progress=progress)
    if plot is not None:
        _draw(found, plot)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            # Names stay whole for grep.
            console.width = max(console.width, UNFOLDED)
        _show(found, console)


def _require_drawable(plot: Path) -> None:
    from jaxmerge.errors import InputError

    if plot.suffix.lower() != ".svg":
        raise InputError(f"--plot {plot}: only SVG is drawn; name a file that ends in .svg")
    if plot.is_dir() or not plot.absolute().parent.is_dir():
        raise InputError(f"--plot {plot}: cannot be written; name a file in a folder that there is")


def _draw(found: dict[str, Any], plot: Path) -> None:
    from jaxmerge.converters.output_folder import full_disk_named
    from jaxmerge.errors import InputError
    from jaxmerge.report.difference import draw

    part = plot.with_name(f".{plot.name}.tmp")
    try:
        with full_disk_named(plot):
            part.write_text(draw(found) + "\n", encoding="utf-8")
            part.replace(plot)
    except OSError as error:
        raise InputError(f"--plot {plot}: cannot be written ({error.strerror}); name another file") from error
    finally:
        part.unlink(missing_ok=True)


def _show(found: dict[str, Any], console: "Console") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{found['a']} -> {found['b']}"), box=SIMPLE_HEAD)
    table.add_column("tensor", overflow="fold", min_width=16)
    for column in ("shape", "cosine", "relative\nL2", "max\n|delta|", "equal"):
        table.add_column(column, justify="right", no_wrap=True)
    different = [tensor for tensor in found["tensors"] if tensor["equal"] not in (1, None)]
    for tensor in different:
        table.add_row(Text(tensor["name"]), "x".join(map(str, tensor["shape"])) or "1", *_figures(tensor))
    table.add_section()
    table.add_row("all that both have", "", *_figures(found["total"]))
    console.print(table)
    count = len(found["tensors"])
    lines = [f"{count} tensors compared, {count - len(different)} equal in all elements"]
    recast = [tensor for tensor in found["tensors"] if len(set(tensor["dtypes"])) > 1]
    if recast:
        lines.append(f"{len(recast)} have another dtype: {' / '.join(recast[0]['dtypes'])} in {recast[0]['name']}")
    lines += [f"{entry['name']} is {' and '.join(map(str, entry['shapes']))}" for entry in found["shapes"]]
    lines += [f"{name} is only in {found[side]}" for side in ("a", "b") for name in found[f"only_in_{side}"]]
    for line in lines:
        console.print(Text(line))


def _figures(figures: dict[str, Any]) -> tuple[str, ...]:
    cosine, relative, equal = (figures[key] for key in ("cosine", "relative", "equal"))
    return (
        "-" if cosine is None else f"{cosine:.6f}",
        "-" if relative is None else f"{relative:.4g}",
        f"{figures['largest']:.4g}",
        "-" if equal is None else f"{100 * equal:.4g}%",
    )
