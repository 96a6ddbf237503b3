"""`jaxmerge transplant-tokens`: a model with another model's tokenizer."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub id, or model+lora.")],
    donor: Annotated[str, typer.Argument(metavar="DONOR", help="The model whose tokenizer it gets.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears when it is complete.")],
    method: Annotated[
        str,
        typer.Option(help="Rows of tokens that MODEL lacks: omp (sums of shared ones), average (of all rows), zero."),
    ] = "omp",
    k: Annotated[int, typer.Option("--k", "-k", help="Shared tokens in a sum, at most.")] = 64,
    pad_to_multiple_of: Annotated[int, typer.Option(metavar="N", help="Rows of the embedding.")] = 1,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Of a file of weights, such as 512MB.")
    ] = "5GB",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Give a model another model's tokenizer, and make embeddings for the tokens that it lacks."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.merging.transplant import transplant_tokens

    with bar("Transplanting") as progress:
        found = transplant_tokens(
            model,
            donor,
            out,
            method=method,
            k=k,
            pad_to_multiple_of=pad_to_multiple_of,
            max_shard_size=max_shard_size,
            force=force,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(found.summary(), indent=2, ensure_ascii=False))
        return
    for name, error in found.error.items():
        typer.echo(f"{name}: the sums miss {error:.3g} of the donor's rows")
    typer.echo(f"{out}: {found.tokens} tokens, {found.kept} kept, {found.made} made, {found.rows} rows")
