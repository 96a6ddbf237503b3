"""`report.html`: one self-contained page about a run, its answer first."""

from pathlib import Path
from typing import Any

from jaxmerge.report import charts, cost, curves, examples, front, genomes, kinship, recipes
from jaxmerge.report.run_data import RecipeTable, RunData, read_run
from jaxmerge.report.scale import Scale
from jaxmerge.report.sensitivity import sensitivity
from jaxmerge.report.standings import KINDS, TITLES, Gain, Standing, comparison_of, gains, standings, verdict
from jaxmerge.search.history import Generation
from jaxmerge.search.ranking import best_score


def build(run_folder: Path) -> Path:
    """Write `report.html` into the run's folder, whole or not at all, and give back its path.

    Raises InputError where the folder is no run's.
    """
    page = render(read_run(Path(run_folder)))
    file = Path(run_folder) / "report.html"
    part = file.with_suffix(".html.tmp")
    part.write_text(page, encoding="utf-8")
    part.replace(file)
    return file


def render(run: RunData) -> str:
    """The page as HTML, of a run that is finished or goes on. Everything that comes from the run is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.jinja").render(_content(run))


def _content(run: RunData) -> dict[str, Any]:
    scale = Scale.of(run.config)
    searched = curves.searched(run.history)
    summary = run.summary
    rows = standings(summary, run.config) if summary is not None else ()
    comparison = comparison_of(summary) if summary is not None else None
    gain, certainty = verdict(summary, scale) if summary is not None else _so_far(searched, scale)
    return {
        "title": run.folder.resolve().name,
        "running": summary is None,
        "gain": gain,
        "certainty": certainty,
        "significant": comparison is not None and comparison.significant and comparison.difference > 0,
        "gains": _gains(gains(summary), scale) if summary is not None else [],
        "titles": TITLES,
        "sections": _results(rows, scale),
        "tested": any(row.test is not None for row in rows),
        "scale": scale,
        "curve": _curve(run, searched, rows, scale),
        "recipe": _maps(run.recipe),
        "matters": _maps(sensitivity(run.summary, run.config, run.recipe))["maps"],
        "path": _path(run),
        "parallel": _parallel(run, searched),
        "shades": genomes.SHADES,
        "front": _front(run, searched),
        "kinship": kinship.read(run.folder),
        "examples": examples.read(run.folder, run.config, summary),
        "scales": _scales(run),
        "objectives": _objectives(run),
        "cost": cost.facts(run),
        "stages": _stages(run),
        "versions": [(str(name), cost.plain(value)) for name, value in ((summary or {}).get("versions") or {}).items()],
        "config_text": run.config_text,
        "recipe_text": run.recipe_text,
    }


def _markup(svg: str) -> Any:
    from markupsafe import Markup

    # The pictures escape their own texts; this is markup, not text.
    return Markup(svg)


def _so_far(searched: list[Generation], scale: Scale) -> tuple[str, str]:
    """The answer's place while the run goes on."""
    results = [result for generation in searched for result in generation.results]
    best = best_score(results)
    if best is None:
        return "Still running", "No candidate has a score yet."
    count = f"{len(results)} candidates in {len(searched)} generation{'s' if len(searched) != 1 else ''}"
    return "Still running", f"Best search score so far: {scale.score(best)}, after {count}."


def _gains(found: tuple[Gain, ...], scale: Scale) -> list[dict[str, Any]]:
    """Each comparison with its picture, all on one axis."""
    if not found:
        return []
    within = charts.extent([gain.comparison.interval for gain in found], zero=True)
    return [
        {
            "title": gain.title,
            "name": gain.comparison.baseline if gain.kind != "random" else "",
            "difference": scale.difference(gain.comparison.difference),
            "interval": scale.interval(gain.comparison.interval),
            "words": gain.words,
            "picture": _markup(
                charts.strip(
                    gain.comparison.difference,
                    gain.comparison.interval,
                    within,
                    "evolved" if gain.words == "better" else "random" if gain.words == "worse" else "unsure",
                    zero=True,
                    bar=False,
                    note=f"{scale.difference(gain.comparison.difference)} over {gain.comparison.baseline}",
                )
            ),
        }
        for gain in found
    ]


def _results(rows: tuple[Standing, ...], scale: Scale) -> list[tuple[str, list[tuple[Standing, Any]]]]:
    """The rows by kind, each with the picture of its test score where it has one."""
    tested = [row.interval or (row.test, row.test) for row in rows if row.test is not None]
    within = charts.extent(tested, zero=scale.share) if tested else (0.0, 1.0)

    def drawn(row: Standing) -> Any:
        if row.test is None:
            return None
        interval = row.interval or (row.test, row.test)
        note = f"{row.name}: {scale.score(row.test)}"
        return _markup(charts.strip(row.test, interval, within, row.kind, zero=False, bar=scale.share, note=note))

    groups = [(kind, [(row, drawn(row)) for row in rows if row.kind == kind]) for kind in KINDS]
    return [(kind, members) for kind, members in groups if members]


def _curve(run: RunData, searched: list[Generation], rows: tuple[Standing, ...], scale: Scale) -> Any:
    best, control = curves.best_so_far(searched), curves.best_so_far(curves.random_search(run.history))
    if not len(best.x):
        return None
    untuned = [row.search for row in rows if row.kind in ("parent", "untuned") and row.search is not None]
    baseline = max(untuned, default=None)
    return {
        "svg": _markup(charts.search_curve(best, curves.spread(searched), control, baseline, scale)),
        "random": bool(len(control.x)),
        "baseline": baseline is not None,
    }


def _maps(table: RecipeTable | None) -> dict[str, Any]:
    """maps: a picture for each parameter that varies. constants: the others, whose one value needs no picture."""
    maps, constants = [], []
    for name, rows in (table.parameters if table else {}).items():
        values = {value for row in rows for value in row}
        if len(values) == 1:
            constants.append((name, f"{values.pop():g}"))
        elif table and values:
            largest = max(map(abs, values))
            maps.append((name, _markup(recipes.heat_map(table, name)), f"{largest:.3g}", min(values) < 0))
    return {"maps": maps, "constants": constants}


def _path(run: RunData) -> dict[str, Any] | None:
    if not run.path:
        return None
    models = list(dict.fromkeys(hop.model for hop in run.path))
    scaled = any(hop.scale is not None for hop in run.path)
    return {
        "svg": _markup(recipes.path(run.path, models)),
        "scales": _markup(recipes.path_scales(run.path, models)) if scaled else None,
        "hops": len(run.path),
        "models": [(name, place % recipes.MODEL_COLOURS) for place, name in enumerate(models)],
    }


def _parallel(run: RunData, searched: list[Generation]) -> dict[str, Any] | None:
    found = genomes.Genomes.of(searched) if searched else None
    if found is None:
        return None
    drawn = genomes.parallel(found, genomes.gene_names(run.config, run.recipe, run.pool), run.best)
    return {"svg": _markup(drawn.svg), "drawn": drawn, "winner": run.best is not None}


def _front(run: RunData, searched: list[Generation]) -> dict[str, Any] | None:
    found = front.front_of(run.summary, run.config)
    if found is None:
        return None
    return {
        "svg": _markup(front.picture(found, searched, _scales(run))),
        "objectives": found.objectives,
        "rows": front.rows(found),
        "scales": _scales(run),
        "count": len(found.points),
    }


def _scales(run: RunData) -> dict[str, Scale]:
    """How each objective's own scores are written."""
    return {str(o.get("name")): Scale.of({"objectives": [o]}) for o in run.config.get("objectives") or []}


def _objectives(run: RunData) -> list[dict[str, Any]]:
    """name, kind, metric, weight and files of each, and the evolved merge's test score where there are several."""
    several, scales = len(run.config.get("objectives") or []) > 1, _scales(run)
    tested = (run.summary or {}).get("objectives") or {}
    return [
        {
            "name": objective.get("name", ""),
            "kind": objective.get("kind", ""),
            "metric": objective.get("metric"),
            "weight": objective.get("weight", 1) if several else None,
            "test": scales[str(objective.get("name"))].score(tested.get(objective.get("name"))) if several else None,
            "files": {split: Path(str(file)).name for split, file in (objective.get("data") or {}).items()},
        }
        for objective in run.config.get("objectives") or []
    ]


def _stages(run: RunData) -> list[tuple[str, str | None, float]]:
    """Name, time and share of each stage."""
    found = cost.stages(run)
    total = sum(seconds for _, seconds in found)
    return [(name, cost.duration(seconds), seconds / total) for name, seconds in found]
