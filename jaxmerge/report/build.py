"""`report.html`: one self-contained page about a run, its answer first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxmerge.report import charts, curves
from jaxmerge.report.run_data import RunData, read_run
from jaxmerge.report.scale import Scale
from jaxmerge.report.standings import KINDS, TITLES, comparison_of, standings, verdict
from jaxmerge.search.history import Generation

# Each chart that fills the page's width is drawn for a screen and for a phone; CSS shows one of them.
_WIDTHS = {"wide": 704, "narrow": 340}


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
    """The page as HTML. Everything that comes from the run is escaped."""
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
    searched, control = curves.searched(run.history), curves.random_search(run.history)
    rows = standings(run.summary, run.config) if run.summary is not None else ()
    comparison = comparison_of(run.summary) if run.summary is not None else None
    gain, certainty = verdict(run.summary, scale) if run.summary is not None else _so_far(searched, scale)
    best, control_best = curves.best_so_far(searched), curves.best_so_far(control)
    untuned = [row.search for row in rows if row.kind in ("parent", "untuned") and row.search is not None]
    baseline = max(untuned, default=None)
    return {
        "title": run.folder.resolve().name,
        "running": run.summary is None,
        "gain": gain,
        "certainty": certainty,
        "significant": comparison is not None and comparison.significant and comparison.difference > 0,
        "titles": TITLES,
        "sections": [(kind, members) for kind in KINDS if (members := [row for row in rows if row.kind == kind])],
        "scale": scale,
        "has_random": bool(len(control_best.x)),
        "has_baseline": baseline is not None,
        "curve": _both_widths(
            lambda width, name: charts.search_curve(
                best, curves.spread(searched), control_best, baseline, scale, width, f"curve-{name}"
            )
        )
        if len(best.x)
        else None,
        "scores": _both_widths(lambda width, name: charts.scores(rows, scale, width, f"scores-{name}"))
        if any(row.test is not None for row in rows)
        else None,
        "recipe": _recipe(run),
        "objectives": _objectives(run),
        "cost": _cost(run),
        "versions": _pairs((run.summary or {}).get("versions")),
        "config_text": run.config_text,
        "recipe_text": run.recipe_text,
    }


def _so_far(searched: list[Generation], scale: Scale) -> tuple[str, str]:
    """The answer's place while the run goes on."""
    scores = curves.scores(searched)
    best = max((score for score in scores if score is not None), default=None)
    if best is None:
        return "Still running", "No candidate has a score yet."
    count = f"{len(scores)} candidates in {len(searched)} generation{'s' if len(searched) != 1 else ''}"
    return "Still running", f"Best search score so far: {scale.score(best)}, after {count}."


def _both_widths(draw: Callable[[int, str], str]) -> dict[str, Any]:
    from markupsafe import Markup

    # The charts escape their own texts; this is markup, not text.
    return {name: Markup(draw(width, name)) for name, width in _WIDTHS.items()}


def _recipe(run: RunData) -> dict[str, Any]:
    """maps: a picture for each parameter that varies. constants: the others, whose one value needs no picture."""
    from markupsafe import Markup

    maps, constants = [], []
    for i, (name, rows) in enumerate((run.recipe.parameters if run.recipe else {}).items()):
        values = {value for row in rows for value in row}
        if len(values) == 1:
            constants.append((name, f"{values.pop():g}"))
        elif run.recipe and values:
            maps.append((name, Markup(charts.recipe(run.recipe, name, f"recipe-{i}"))))
    return {"maps": maps, "constants": constants}


def _objectives(run: RunData) -> list[dict[str, Any]]:
    """name, kind, metric, weight and files of each, and the evolved merge's test score where there are several."""
    several = len(run.config.get("objectives") or []) > 1
    tested = (run.summary or {}).get("objectives") or {}
    return [
        {
            "name": objective.get("name", ""),
            "kind": objective.get("kind", ""),
            "metric": objective.get("metric"),
            "weight": objective.get("weight", 1) if several else None,
            "test": Scale.of({"objectives": [objective]}).score(tested.get(objective.get("name"))) if several else None,
            "files": {split: Path(str(file)).name for split, file in (objective.get("data") or {}).items()},
        }
        for objective in run.config.get("objectives") or []
    ]


def _cost(run: RunData) -> list[tuple[str, str]]:
    summary = run.summary or {}
    scores = curves.scores(curves.searched(run.history))
    failed = scores.count(None)
    spent = sum(result.seconds for generation in run.history for result in generation.results)
    facts = {
        "candidates": f"{summary.get('candidates', len(scores))}",
        "failed": f"{failed}" if failed else None,
        "time": _duration(summary.get("seconds", spent)),
        "candidates per second": _rate(summary.get("candidates_per_second")),
        "compilations": summary.get("compiles"),
        "devices": _plain(summary.get("devices")),
        "started from": summary.get("start"),
        "chosen on": summary.get("chosen_on"),
        "seed": summary.get("seed", (run.config.get("search") or {}).get("seed")),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _plain(value: Any) -> str:
    """A summary's value, of whatever shape, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        texts = [_plain(item) for item in value]
        counts = {text: texts.count(text) for text in texts}
        return ", ".join(text if count == 1 else f"{count} × {text}" for text, count in counts.items())
    return "" if value is None else str(value)


def _pairs(value: Any) -> list[tuple[str, str]]:
    return [(str(name), _plain(item)) for name, item in value.items()] if isinstance(value, dict) else []
