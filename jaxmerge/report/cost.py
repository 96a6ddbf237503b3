"""What a run cost: candidates, time by stage, compilations, where and with what it ran."""

from typing import Any

from jaxmerge.report import curves
from jaxmerge.report.run_data import RunData
from jaxmerge.search.config import RANDOM_SEARCH

# What each stage of a run is called; a search's own stages keep their names.
_STAGES = {
    "baselines": "parents and untuned merges",
    RANDOM_SEARCH: "random search",
    "parameter": "search",
    "validation": "validation",
    "test": "test",
}


def facts(run: RunData) -> list[tuple[str, str]]:
    """Name and value of each."""
    summary = run.summary or {}
    results = [result for generation in curves.searched(run.history) for result in generation.results]
    failed = sum(result.score is None for result in results)
    rate, tokens = summary.get("candidates_per_second"), summary.get("tokens_per_candidate")
    cheap = summary.get("evaluation") or {}
    found = {
        "candidates": f"{summary.get('candidates', len(results)):,}",
        "of them failed": f"{failed:,}" if failed else None,
        "evaluation time": duration(summary.get("seconds", sum(seconds for _, seconds in stages(run)))),
        "candidates per second": None if rate is None else f"{rate:.3g}",
        "tokens per candidate": f"{tokens:,}" if tokens else None,
        "tokens saved": _share(cheap.get("tokens_saved")),
        "rank correlation with full scores": _rounded(cheap.get("rank_correlation")),
        "compilations": summary.get("compiles"),
        "devices": plain(summary.get("devices")),
        "started from": summary.get("start"),
        "chosen on": summary.get("chosen_on"),
        "seed": summary.get("seed", (run.config.get("search") or {}).get("seed")),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "")]


def stages(run: RunData) -> list[tuple[str, float]]:
    """Seconds of evaluation by stage, in the order they ran; while the run goes on, of what is in its history."""
    spent = (run.summary or {}).get("seconds_by_stage")
    if not isinstance(spent, dict):
        spent = {}
        for generation in run.history:
            seconds = sum(result.seconds for result in generation.results)
            spent[generation.stage] = spent.get(generation.stage, 0.0) + seconds
    return [(_STAGES.get(name, name), float(seconds)) for name, seconds in spent.items() if seconds]


def _share(value: Any) -> str | None:
    return None if value is None else f"{100 * value:.1f}%"


def _rounded(value: Any) -> str | None:
    return None if value is None else f"{value:.3f}"


def duration(seconds: float | None) -> str | None:
    """`8.3 s`, `4 min 11 s`, `2 h 05 min`."""
    if seconds is None:
        return None
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plain(value: Any) -> str:
    """A summary's value, of whatever shape, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        texts = [plain(item) for item in value]
        counts = {text: texts.count(text) for text in texts}
        return ", ".join(text if count == 1 else f"{count} × {text}" for text, count in counts.items())
    return "" if value is None else str(value)
