"""The model card of an evolved merge: README.md with the front matter that the Hub reads."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.report.scale import Scale
from jaxmerge.report.standings import LABELS, standings, verdict


@dataclass(frozen=True)
class Parent:
    """A model that went into the merge.

    model: its hub id, perhaps with `@revision`, or its folder's name where it is local.
    license: the identifier its own card states, None where it states none."""

    name: str
    model: str
    license: str | None = None


def model_card(
    title: str,
    *,
    parents: Sequence[Parent],
    recipe: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    examples: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The text of README.md.

    recipe: best.yaml as written. summary: as in `summary.json`. config: the run's resolved config.
    examples: objective -> split -> number of examples.
    """
    scale = Scale.of(config)
    gain, certainty = verdict(summary, scale)
    parts = [
        _front_matter(parents),
        f"# {_line(title)}",
        "An evolutionary model merge, found by jaxmerge. It is an ordinary checkpoint: transformers loads it as it is.",
        f"**{gain}** {certainty}",
        "## Scores",
        _scores(summary, config, scale),
        "Intervals are 95%, on the test data, which the search never saw.",
        "## Parents",
        "\n".join(
            f"- {_line(p.name)}: `{p.model}`, license: {p.license or 'not known here, see its own card'}"
            for p in parents
        ),
        "## Recipe",
        _fenced(recipe, "yaml"),
        "`jaxmerge merge` makes this model again from the recipe, bit for bit.",
        "## Data",
        _data(config, examples or {}),
        "## Search",
        _search(summary, config),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def stated_license(folder: Path) -> str | None:
    """The license in the front matter of a checkpoint's own README.md, or None where it states none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    try:
        matter = YAML(typ="safe", pure=True).load(text[4 : text.index("\n---", 4) + 1])
    except YAMLError:
        return None
    # A card that cannot be read states no license; the merge itself does not depend on it.
    stated = matter.get("license") if isinstance(matter, dict) else None
    return stated if isinstance(stated, str) else None


def _front_matter(parents: Sequence[Parent]) -> str:
    from ruamel.yaml import YAML

    licenses = {p.license for p in parents}
    matter: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": list(dict.fromkeys(p.model.partition("@")[0] for p in parents)),
        "base_model_relation": "merge",
        "tags": ["merge", "jaxmerge"],
    }
    if licenses and licenses != {None}:
        # Parents that differ need a person to decide; `other` is what the Hub calls that.
        matter["license"] = licenses.pop() if len(licenses) == 1 else "other"
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(matter, stream)
    return f"---\n{stream.getvalue()}---"


def _scores(summary: Mapping[str, Any], config: Mapping[str, Any], scale: Scale) -> str:
    rows = ["| model | | search | test | 95% interval |", "|---|---|---:|---:|---:|"]
    for row in standings(summary, config):
        cells = [row.name, LABELS[row.kind], scale.score(row.search), scale.score(row.test)]
        rows.append("| " + " | ".join(map(_line, [*cells, scale.interval(row.interval)])) + " |")
    return "\n".join(rows)


def _data(config: Mapping[str, Any], examples: Mapping[str, Mapping[str, int]]) -> str:
    lines = []
    for objective in config.get("objectives") or []:
        name, metric = str(objective.get("name", "")), objective.get("metric")
        lines.append(f"- {_line(name)}: {objective.get('kind', '')}" + (f", {_line(str(metric))}" if metric else ""))
        for split, file in (objective.get("data") or {}).items():
            if isinstance(file, str):
                count = examples.get(name, {}).get(split)
                size = f", {count} examples" if count is not None else ""
                lines.append(f"  - {split}: `{Path(file).name}`{size}")
    return "\n".join(lines)


def _search(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    search, space = config.get("search") or {}, config.get("space") or {}
    facts = {
        "operator": space.get("operator"),
        "algorithm": search.get("algorithm"),
        "population": search.get("population"),
        "candidates": summary.get("candidates"),
        "seed": summary.get("seed", search.get("seed")),
        "dtype": (config.get("runtime") or {}).get("dtype"),
        "versions": ", ".join(f"{name} {version}" for name, version in (summary.get("versions") or {}).items()),
    }
    return "\n".join(f"- {name}: {_line(str(value))}" for name, value in facts.items() if value not in (None, ""))


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _line(text: str) -> str:
    """Free text that stays within its line or its cell."""
    return " ".join(text.split()).replace("|", "\\|")
