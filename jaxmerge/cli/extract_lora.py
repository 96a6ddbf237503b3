"""`jaxmerge extract-lora`: what a fine-tune changed, as a LoRA."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jaxmerge.merging.extraction import Extraction


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The fine-tune: a folder, a hub id, or model+lora.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears when it is complete.")],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model that it was tuned from.")],
    rank: Annotated[
        int | None, typer.Option("--rank", "--max-rank", help="Largest rank; 128 where --energy is not given either.")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="The least rank that keeps this share of a change's squares, such as 0.95.")
    ] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Embeddings too.")] = False,
    save_modules: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Store these whole, by the end of their names.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the LoRA: float32, bfloat16 or float16.")] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Write what a fine-tune changed as a LoRA, which PEFT loads and model+lora applies."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.merging.extraction import extract_lora

    with bar("Decomposing") as progress:
        found = extract_lora(
            model,
            out,
            base=base,
            rank=rank,
            energy=energy,
            embeddings=embeddings,
            save_modules=save_modules or (),
            dtype=dtype,
            force=force,
            progress=progress,
        )
    typer.echo(json.dumps(found.summary(), indent=2, ensure_ascii=False) if as_json else _summary(found, out))


def _summary(found: "Extraction", out: Path) -> str:
    lines = [f"{name}: rank {part.rank}, relative error {part.error:.3g}" for name, part in found.modules.items()]
    lines += [f"{name}: stored whole" for name in found.whole]
    lines += [
        f"{name}: left out, {share:.3g} of the change; --save-modules takes its module in"
        for name, share in found.left_out.items()
    ]
    return "\n".join([*lines, f"{out}: {len(found.modules)} modules, relative error {found.error:.3g} in all"])
