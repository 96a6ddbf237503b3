"""Parallel coordinates: candidates as lines over the genes, coloured by score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmerge.errors import JaxmergeError
from jaxmerge.operators.registry import operator
from jaxmerge.report.charts import labelled
from jaxmerge.report.recipes import short
from jaxmerge.report.run_data import RecipeTable
from jaxmerge.report.svg import Frame, percent, tag
from jaxmerge.search.history import Generation
from jaxmerge.search.ranking import columns
from jaxmerge.spaces.dataflow import Pool, gene_labels
from jaxmerge.spaces.groups import Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range

# Lines and axes that are drawn, whatever the run.
_LINES = 240
_AXES = 24
# Shades of the score; the page has a class for each.
SHADES = 8


@dataclass(frozen=True)
class Genomes:
    """genomes: `[N, d]` in the unit box, all that have a score, by the search's order. scores: `[N]`, as estimated
    where there is an estimate."""

    genomes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, generations: Sequence[Generation]) -> "Genomes | None":
        """Those of the last stage; None where fewer than two candidates have a score."""
        last = [generation for generation in generations if generation.stage == generations[-1].stage]
        scores = columns([result for generation in last for result in generation.results])[0]
        there = np.isfinite(scores)
        genomes = np.concatenate([generation.genomes for generation in last])[there]
        return cls(genomes, scores[there]) if genomes.shape[0] > 1 and genomes.shape[1] else None


@dataclass(frozen=True)
class Parallel:
    """The picture, and what was left out of it."""

    svg: str
    lines: int
    candidates: int
    axes: int
    genes: int


def parallel(found: Genomes, names: Sequence[str], best: np.ndarray | None) -> Parallel:
    """names: a label for each gene, or none. best: the winner's genome, drawn on top."""
    count, genes = found.genomes.shape
    order = np.argsort(found.scores, kind="stable")
    # Evenly over the ranks, so that the worst and the best are there.
    chosen = order[np.unique(np.linspace(0, count - 1, min(count, _LINES)).round().astype(int))]
    axes = _telling(found, order) if genes > _AXES else np.arange(genes)
    frame = Frame((0, max(1, len(axes) - 1)), (0, 1), 260)
    for value, label in ((0.0, "low"), (0.5, ""), (1.0, "high")):
        frame.rule(value, label)
    for k in range(len(axes)):
        x = percent(frame.across(k))
        frame.add_behind(tag("line", x1=x, x2=x, y1="0", y2=frame.height, class_="grid"))
    places = list(range(len(axes)))
    # Equal scores have one shade.
    ranks = np.searchsorted(np.sort(found.scores[chosen]), found.scores[chosen])
    for rank, index in zip(ranks.tolist(), chosen, strict=True):
        shade = min(SHADES - 1, rank * SHADES // len(chosen))
        frame.line(places, np.clip(found.genomes[index, axes], 0, 1).tolist(), f"shade-{shade}")
    if best is not None and len(best) == genes:
        frame.line(places, np.clip(best[axes], 0, 1).tolist(), "winner")
    longest = 0
    if len(names) == genes:
        labels = [short(names[axis], 18) for axis in axes.tolist()]
        longest = max(map(len, labels))
        for k, label in enumerate(labels):
            frame.add_behind(labelled(label, frame.across(k), frame.height + 14.0, "tick end small", turned=68))
    drawn = frame.svg("Candidates over the genes, coloured by score", below=20 + 6 * longest)
    return Parallel(drawn, len(chosen), count, len(axes), genes)


def _telling(found: Genomes, order: np.ndarray) -> np.ndarray:
    """The genes in which the best tenth differs most from all, ascending."""
    top = found.genomes[order[-max(1, len(order) // 10) :]]
    gap = np.abs(top.mean(axis=0) - found.genomes.mean(axis=0)) / (found.genomes.std(axis=0) + 1e-9)
    return np.sort(np.argsort(-gap, kind="stable")[:_AXES])


def gene_names(config: Mapping[str, Any], table: RecipeTable | None, pool: Mapping[str, int]) -> list[str]:
    """A label for each gene; none where they are unknown, as before there is a best recipe. pool: of `RunData`."""
    space = config.get("space") or {}
    kind = space.get("kind", "parameter")
    if kind == "low_rank":
        space = space | {"operator": "task_arithmetic", "parameters": {"weight": [-1.0, 1.0]}}
    merge, flow = _of_merge(space, table) if kind != "dataflow" and table else [], []
    if kind != "parameter" and pool:
        models = Pool(tuple(pool), tuple(pool.values()))
        flow = list(gene_labels(models, int(space["repeats"]), str(space["scales"])))
    return merge + flow


def _of_merge(space: Mapping[str, Any], table: RecipeTable) -> list[str]:
    found = space_of(space, table)
    genes = found.genes if found is not None else ()
    return [gene.replace(" layers.", " ").replace(" embed_tokens", " emb") for gene in genes]


def space_of(space: Mapping[str, Any], table: RecipeTable) -> ParameterSpace | None:
    """The space of a recipe's parameters, without their bounds; None for an operator of the user's own, which is not
    loaded to draw something."""
    # Only which of them are searched counts here, not their bounds.
    settings = {
        name: Range(0.0, 1.0) if isinstance(value, dict | list) else value
        for name, value in (space.get("parameters") or {}).items()
    }
    try:
        chosen = operator(str(space.get("operator")))
        return ParameterSpace(chosen, table.experts, Groups(table.groups, {}), settings)
    except JaxmergeError:
        return None
