"""A run's folder as a search would have left it: 640 candidates of CMA-ES and 640 of random search."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

GROUPS = ["embed_tokens", *(f"layers.{i}" for i in range(6)), "norm"]
EXPERTS = ["math", "ja"]
TESTED = 500

CONFIG: dict[str, Any] = {
    "models": {"math": "models/math", "ja": "models/ja"},
    "base": "models/base",
    "tokenizer": "base",
    "space": {
        "kind": "parameter",
        "operator": "dare_ties",
        "granularity": "layer",
        "parameters": {"weight": {"low": -0.3, "high": 1.8, "init": 0.8}, "density": [0.1, 1.0]},
    },
    "objectives": [
        {
            "name": "maths_in_japanese",
            "kind": "generate",
            "metric": "last_number",
            "data": {"search": "data/search.jsonl", "validation": "data/validation.jsonl", "test": "data/test.jsonl"},
        }
    ],
    "search": {"algorithm": "CMA_ES", "population": 16, "generations": 40, "seed": 0},
    "runtime": {"mesh": "auto", "bank": "device", "chunk": 1, "dtype": "float32"},
}

BASELINES = {
    "math": (0.0, 0.002),
    "ja": (0.0, 0.0),
    "base": (0.0, 0.002),
    "uniform": (0.052, 0.048),
    "task_arithmetic": (0.125, 0.104),
    "task_arithmetic 1/n": (0.302, 0.258),
    "ties": (0.240, 0.260),
    "dare_ties": (0.260, 0.254),
    "random_search": (0.448, 0.426),
}


def _interval(share: float) -> list[float]:
    half = 1.96 * (share * (1 - share) / TESTED) ** 0.5
    return [max(0.0, share - half), share + half]


def summary_of(baselines: dict[str, tuple[float, float]] = BASELINES) -> dict[str, Any]:
    return {
        "best_score": 0.677,
        "validation_score": 0.64,
        "test_score": 0.6,
        "test_interval": _interval(0.6),
        "baselines": {
            name: {"search_score": search, "test_score": test, "test_interval": _interval(test)}
            for name, (search, test) in baselines.items()
        },
        "best": {"stage": "parameter", "generation": 39, "index": 2},
        "comparison": {"baseline": "random_search", "difference": 0.174, "interval": [0.118, 0.230]},
        "comparisons": {
            "parent": {"baseline": "math", "difference": 0.598, "interval": [0.554, 0.642]},
            "untuned": {"baseline": "ties", "difference": 0.34, "interval": [0.288, 0.392]},
            "random_search": {"baseline": "random_search", "difference": 0.174, "interval": [0.118, 0.230]},
        },
        "candidates": 640,
        "candidates_per_second": 5.13,
        "tokens_per_candidate": 12345,
        "seconds": 251.3,
        "seconds_by_stage": {
            "baselines": 4.2,
            "parameter": 124.7,
            "random_search": 101.3,
            "validation": 12.0,
            "test": 9.1,
        },
        "compiles": 2,
        "seed": 0,
        "versions": {"jaxmerge": "0.1.0", "jax": "0.8.1", "evosax": "0.2.0", "python": "3.11.9"},
        "devices": "2 x cpu",
    }


def _genome(generator: np.random.Generator, genes: int, generation: int, stage: str) -> list[float]:
    target = np.random.default_rng(9).random(genes)
    width = 0.3 if stage == "random_search" else 0.3 * np.exp(-generation / 25)
    return np.clip(target + width * generator.normal(size=genes), 0, 1).astype(np.float32).tolist()


def history_of(generations: int = 40, population: int = 16, genes: int = 32) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    lines = []
    for stage in ("parameter", "random_search"):
        for generation in range(generations):
            centre = 0.28 + 0.38 * (1 - np.exp(-generation / 12)) if stage == "parameter" else 0.14
            spread = 0.10 * np.exp(-generation / 30) if stage == "parameter" else 0.09
            for index in range(population):
                score = round(96 * float(np.clip(generator.normal(centre, spread), 0, 0.677))) / 96
                lines.append(
                    {
                        "stage": stage,
                        "generation": generation,
                        "index": index,
                        "genome": _genome(generator, genes, generation, stage),
                        "score": None if (generation, index) == (3, 5) else score,
                        "tie": -1.0,
                        "scores": {"maths_in_japanese": score},
                        "seconds": 0.2,
                        "error": "non-finite score" if (generation, index) == (3, 5) else None,
                    }
                )
    return lines


def best_of() -> dict[str, Any]:
    math = [-0.02, 1.26, -0.06, 1.72, -0.22, 0.41, -0.30, 0.03]
    ja = [1.13, 0.35, -0.09, 1.30, 1.35, 0.06, 1.03, -0.27]
    density = [[1.0, 0.34], [0.55, 0.62], [0.9, 0.18], [0.7, 0.81], [0.24, 0.5], [0.66, 0.93], [0.4, 0.75], [1.0, 1.0]]
    return {
        "merge_method": "dare_ties",
        "base_model": "models/base",
        "jaxmerge": {
            "seed": 0,
            "groups": list(GROUPS),
            "experts": EXPERTS,
            "parameters": {
                "weight": [list(pair) for pair in zip(math, ja, strict=True)],
                "density": density,
                "lambda": [1.0] * len(GROUPS),
            },
        },
    }


def path_of(hops: int = 14, depth: int = 6) -> dict[str, Any]:
    """A data flow over the layers of both experts, as best.yaml."""
    generator = np.random.default_rng(1)
    layers = sorted(generator.integers(0, depth, hops - 2).tolist())
    path = [("math", 0), *zip(generator.choice(EXPERTS, hops - 2).tolist(), layers, strict=True), ("math", depth - 1)]
    return {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": f"models/{m}", "layer_range": [i, i + 1]}]} for m, i in path],
        "jaxmerge": {"seed": 0, "scales": generator.uniform(0.5, 1.5, hops).round(3).tolist()},
    }


def measurements_of(tested: int = TESTED, length: int = 60) -> list[dict[str, Any]]:
    """Test records of the parents and the winner, with texts of `length` letters."""
    generator = np.random.default_rng(2)
    right = {"math": generator.random(tested) < 0.05, "ja": generator.random(tested) < 0.08}
    right["parameter:39:2"] = generator.random(tested) < 0.6
    places = list(range(0, tested, -(-tested // 200)))
    return [
        {
            "context": "",
            "candidate": name,
            "split": "test",
            "score": float(values.mean()),
            "tie": -1.0,
            "scores": {"maths_in_japanese": float(values.mean())},
            "seconds": 0.6,
            "error": None,
            "examples": {"maths_in_japanese": values.astype(float).tolist()},
            "texts": {
                "maths_in_japanese": {
                    "places": places,
                    "prompts": [f"問{i}: 三たす{i}は? <b> ".ljust(length, "。") for i in places],
                    "answers": [str(3 + i) for i in places],
                    "outputs": [f"答えは{3 + i if values[i] else i}です".ljust(length // 2, "。") for i in places],
                }
            },
        }
        for name, values in right.items()
    ]


KINSHIP = {"models": EXPERTS, "cosine": [[1.0, -0.07], [-0.07, 1.0]], "relative": [0.12, 0.34], "share": 1.0}


def write_run(
    folder: Path,
    config: dict[str, Any] = CONFIG,
    history: list[dict[str, Any]] | None = None,
    summary: dict[str, Any] | None = None,
    best: dict[str, Any] | None = None,
    measurements: list[dict[str, Any]] | None = None,
    kinship: dict[str, Any] | None = None,
) -> Path:
    """Write a run's folder; what is None is left out, as in a run that is still going on."""
    folder.mkdir(parents=True)
    yaml = YAML()
    yaml.dump(config, folder / "config.yaml")
    lines = history_of() if history is None else history
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    if best is not None:
        yaml.dump(best, folder / "best.yaml")
    (folder / "state").mkdir()
    if measurements is not None:
        text = "".join("\n" + json.dumps(line) + "\n" for line in measurements)
        (folder / "state" / "measurements.jsonl").write_text(text)
    if kinship is not None:
        (folder / "state" / "kinship.json").write_text(json.dumps(kinship))
    return folder
