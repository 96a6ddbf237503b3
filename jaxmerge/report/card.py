"""The model card of an evolved merge: README.md with the front matter that the Hub reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxmerge.merging.card import Parent, front_matter, line, parents_section, recipe_section
from jaxmerge.report.scale import Scale
from jaxmerge.report.standings import LABELS, standings, verdict

# What a search in a space is called.
SPACES = {"dataflow": "data flow", "joint": "a merge and a data flow", "low_rank": "low-rank directions"}


def model_card(
    title: str,
    *,
    parents: Sequence[Parent],
    recipe: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    examples: Mapping[str, Mapping[str, int]] | None = None,
    sharing: Mapping[str, int] | None = None,
) -> str:
    """The text of README.md.

    recipe: best.yaml as written. summary: as in `summary.json`. config: the run's resolved config.
    examples: objective -> split -> number of examples. sharing: of a model of repeated layers, as its recipe says it.
    """
    scale = Scale.of(config)
    gain, certainty = verdict(summary, scale)
    parts = [
        front_matter(parents),
        f"# {line(title)}",
        "An evolutionary model merge, found by jaxmerge. It is an ordinary checkpoint: transformers loads it as it is.",
        f"**{gain}** {certainty}",
        "## Scores",
        _scores(summary, config, scale),
        "Intervals are 95%, on the test data, which the search never saw.",
        parents_section(parents),
        recipe_section(recipe),
        _shared(sharing) if sharing else "",
        "## Data",
        _data(config, examples or {}),
        "## Search",
        _search(summary, config),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(summary: Mapping[str, Any], config: Mapping[str, Any], scale: Scale) -> str:
    rows = ["| model | | search | test | 95% interval |", "|---|---|---:|---:|---:|"]
    for row in standings(summary, config):
        cells = [row.name, LABELS[row.kind], scale.score(row.search), scale.score(row.test)]
        rows.append("| " + " | ".join(map(line, [*cells, scale.interval(row.interval)])) + " |")
    return "\n".join(rows)


def _shared(sharing: Mapping[str, int]) -> str:
    whole, shared = (sharing[key] / 1e6 for key in ("parameters", "shared_parameters"))
    return (
        f"Of its {sharing['layers']} layers {sharing['unique_layers']} are different, but for scales. It has "
        f"{whole:,.1f}M parameters as it is; {shared:,.1f}M would be left if each were stored once."
    )


def _data(config: Mapping[str, Any], examples: Mapping[str, Mapping[str, int]]) -> str:
    lines = []
    for objective in config.get("objectives") or []:
        name, metric = str(objective.get("name", "")), objective.get("metric")
        lines.append(f"- {line(name)}: {objective.get('kind', '')}" + (f", {line(str(metric))}" if metric else ""))
        for split, file in (objective.get("data") or {}).items():
            if isinstance(file, str):
                count = examples.get(name, {}).get(split)
                size = f", {count} examples" if count is not None else ""
                lines.append(f"  - {split}: `{Path(file).name}`{size}")
    return "\n".join(lines)


def _search(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    search, space = config.get("search") or {}, config.get("space") or {}
    facts = {
        "space": SPACES.get(str(space.get("kind"))),
        "scales": space.get("scales"),
        "operator": space.get("operator"),
        "algorithm": search.get("algorithm"),
        "population": search.get("population"),
        "candidates": summary.get("candidates"),
        "seed": summary.get("seed", search.get("seed")),
        "dtype": (config.get("runtime") or {}).get("dtype"),
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
    }
    return "\n".join(f"- {name}: {line(str(value))}" for name, value in facts.items() if value not in (None, ""))
