"""Score a model on a config's objectives."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jaxmerge.objectives.evaluation import Evaluation


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An HF or Flax folder, or a hub id; model+lora.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Its objectives are used.")],
    split: Annotated[str, typer.Option(help="search, validation or test.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    examples: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write prompt, output and score of each example as JSONL.")
    ] = None,
) -> None:
    """Score a model on a config's objectives."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.objectives.evaluation import evaluate, require_writable

    if examples is not None:
        require_writable(examples)
    with bar("Scoring") as progress:
        evaluation = evaluate(model, config, split, progress=progress)
    if examples is not None:
        evaluation.write_examples(examples)
    if as_json:
        typer.echo(json.dumps(evaluation.summary(), ensure_ascii=False))
    else:
        _show(evaluation, split)


def _show(evaluation: "Evaluation", split: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("objective", "score", "95% interval", "examples", title=f"Scores on {split}")
    for name, result in evaluation.objectives.items():
        low, high = result.interval
        table.add_row(name, f"{result.score:.4f}", f"{low:.4f} to {high:.4f}", str(result.n))
    if len(evaluation.objectives) > 1:
        table.add_row("all, weighted", f"{evaluation.score:.4f}", "", "")
    Console().print(table)
