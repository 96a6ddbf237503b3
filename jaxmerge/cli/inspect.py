"""Show what models are, how far they are from a base, how alike, and whether they can be merged."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def command(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Folders or hub ids (org/name@revision); model+lora.")
    ],
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model they were tuned from: adds deltas and kinship."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show what models are, how far they are from a base, how alike, and whether they can be merged."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.merging.inspection import inspect

    with bar("Reading tensors") as progress:
        result = inspect(models, base, progress=progress)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        _show(result, Console())


def _show(result: dict[str, Any], console: "Console") -> None:
    from rich.table import Table

    everything = [result["base"], *result["models"]] if result["base"] else result["models"]
    short = _short([entry["model"] for entry in everything])
    names = [short[entry["model"]] + (" (base)" if entry is result["base"] else "") for entry in everything]
    table = Table("", *names, title="Models")
    for label, value in FACTS.items():
        if label == "LoRA" and not any(entry["lora"] for entry in everything):
            continue
        table.add_row(label, *(value(entry) for entry in everything))
    console.print(table)
    if result["deltas"]:
        _show_deltas(result["deltas"], short, console)
    if result["kinship"]:
        _show_kinship(result["kinship"], short, console)
    if len(everything) > 1:
        console.print("They can be merged." if result["mergeable"] else "They cannot be merged:", style="bold")
    for line in (*result["differences"], *result["notes"]):
        console.print(f"  {line}", markup=False, highlight=False)


FACTS: dict[str, Any] = {
    "LoRA": lambda m: f"rank {m['lora']['rank']}, {m['lora']['tensors']} tensors" if m["lora"] else "no",
    "architecture": lambda m: str(m["architecture"] or m["model_type"]),
    "can be evolved": lambda m: "yes" if m["evolvable"] else "no, merged only",
    "parameters": lambda m: f"{m['parameters']:,}",
    "size": lambda m: f"{m['bytes'] / 1e6:,.1f} MB",
    "dtype": lambda m: ", ".join(m["dtypes"]),
    "layers": lambda m: str(m["layers"]),
    "hidden size": lambda m: str(m["hidden_size"]),
    "heads (key/value)": lambda m: f"{m['heads']} ({m['kv_heads']})",
    "vocabulary": lambda m: str(m["vocabulary"]),
    "embeddings": lambda m: "tied" if m["tied"] else "untied",
}


def _show_deltas(deltas: list[dict[str, Any]], short: dict[str, str], console: "Console") -> None:
    from rich.table import Table

    table = Table("group", *(short[entry["model"]] for entry in deltas), title="Deltas: norm (mean of absolute values)")
    groups = {"total": None} | dict.fromkeys(deltas[0]["groups"])
    for group in groups:
        parts = [entry["total"] if group == "total" else entry["groups"][group] for entry in deltas]
        table.add_row(group, *(f"{part['norm']:.4g} ({_number(part['mean_absolute'])})" for part in parts))
    console.print(table)


def _show_kinship(kinship: dict[str, Any], short: dict[str, str], console: "Console") -> None:
    from rich.table import Table

    names = [short[ref] for ref in kinship["models"]]
    for measure in ("pearson", "cosine", "euclidean"):
        table = Table("", *names, title=f"Kinship: {measure}")
        for name, row in zip(names, kinship[measure], strict=True):
            table.add_row(name, *map(_number, row))
        console.print(table)


def _short(refs: list[str]) -> dict[str, str]:
    """Each ref's last part, where that tells them apart."""
    last = {ref: ref.rstrip("/").rsplit("/", 1)[-1] for ref in refs}
    return last if len(set(last.values())) == len(last) else {ref: ref for ref in refs}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
