"""Item response theory on responses that it generated, and a run that is scored by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tiny_world import write_world

from jaxmerge.errors import InputError
from jaxmerge.search.dry_run import plan
from jaxmerge.search.evaluation.irt import Items, fit
from jaxmerge.search.evolve import evolve

IRT = {"kind": "irt", "subset": 4}


def sampled(rng: np.random.Generator, items: Items, abilities: np.ndarray) -> np.ndarray:
    chances = items.chances(abilities)
    return (rng.random(chances.shape) < chances).astype(np.float64)


@pytest.fixture(scope="module")
def world() -> tuple[Items, Items, np.random.Generator]:
    """Examples, and what is found of them from the answers of 60 models."""
    rng = np.random.default_rng(0)
    items = Items(np.exp(rng.normal(0, 0.4, 150)), rng.normal(0, 1.5, 150))
    return items, fit(sampled(rng, items, rng.normal(0, 1, 60))), rng


def test_items_are_recovered(world: tuple[Items, Items, np.random.Generator]) -> None:
    items, found, _ = world
    assert stats.pearsonr(found.hard, items.hard).statistic > 0.9
    assert stats.spearmanr(found.telling, items.telling).statistic > 0.3


def test_abilities_are_recovered_and_full_scores_predicted_better_than_by_the_mean(
    world: tuple[Items, Items, np.random.Generator],
) -> None:
    items, found, rng = world
    abilities = np.linspace(-2, 2, 40)
    answers = sampled(rng, items, abilities)
    recovered = found.abilities(answers)
    assert stats.spearmanr(recovered, abilities).statistic > 0.95
    assert np.abs(recovered - abilities).mean() < 0.4
    errors: dict[str, list[float]] = {"mean": [], "found": [], "true": []}
    for _ in range(20):
        asked = np.isin(np.arange(150), rng.choice(150, 30, replace=False))
        some = np.where(asked, answers, np.nan)
        for name, by in (("found", found), ("true", items)):
            predicted = np.where(asked, answers, by.chances(by.abilities(some))).mean(axis=1)
            errors[name].append(float(np.abs(predicted - answers.mean(axis=1)).mean()))
        errors["mean"].append(float(np.abs(np.nanmean(some, axis=1) - answers.mean(axis=1)).mean()))
    # Answers are random: even who knows the examples errs.
    assert np.mean(errors["found"]) < 1.1 * np.mean(errors["true"]) < np.mean(errors["mean"])


def test_one_more_model_compiles_nothing_and_order_does_not_matter() -> None:
    from jaxmerge.runtime.compilations import counted

    answers = np.random.default_rng(1).integers(0, 2, (9, 40)).astype(np.float64)
    before = fit(answers[:8])
    with counted() as compilations:
        after = fit(answers)
    assert compilations.count == 0
    assert (after.hard != before.hard).any()
    turned = fit(answers[::-1])
    np.testing.assert_allclose(turned.hard, after.hard, atol=1e-3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    (folder / "shares_of_words.py").write_text(
        "def share(output, example):\n    words = output.split()\n"
        "    return sum(ord(word[-1]) % 2 for word in words) / max(len(words), 1)\n"
    )
    data = {split: f"{split}.jsonl" for split in ("search", "validation", "test")}
    task = {"name": "words", "kind": "generate", "prompt": "{question}", "metric": "shares_of_words:share"}
    search = {"population": 4, "generations": 3, "seed": 1, "baselines": ["task_arithmetic"], "evaluation": IRT}
    return write_world(folder, objectives=[task | {"max_new_tokens": 4, "data": data}], search=search)


def records(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_run_scores_a_subset_and_the_best_on_all_and_resumes_to_the_same_history(
    config: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    evolve(config, whole)
    found = records(whole)
    for generation in range(3):
        lines = [record for record in found if record["generation"] == generation]
        seen = [sum(value is not None for value in record["seen"]["words"]) for record in lines]
        assert sorted(seen) == [4, 4, 4, 8]
        assert all(("estimate" in record) == (n == 4) for record, n in zip(lines, seen, strict=True))
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["evaluation"]["kind"] == "irt" and summary["evaluation"]["examples_share"] == pytest.approx(5 / 8)
    evolve(config, parts, overrides=["search.generations=1"])
    evolve(config, parts)
    assert records(parts) == found
    assert (parts / "best.yaml").read_bytes() == (whole / "best.yaml").read_bytes()


def test_likelihoods_and_samples_are_refused(tmp_path: Path) -> None:
    config = write_world(tmp_path, search={"evaluation": IRT})
    with pytest.raises(InputError, match="irt needs scores from 0 to 1, and 'copy' is of kind likelihood"):
        plan(config)
    choice = {"name": "pick", "kind": "choice", "prompt": "{question}", "answer": " w5", "choices": [" w5", " w6"]}
    config = write_world(
        tmp_path / "sampled",
        search={"evaluation": IRT},
        objectives=[choice | {"sample": 4, "data": {"search": "search.jsonl"}}],
    )
    with pytest.raises(InputError, match="remove 'sample' from 'pick'"):
        plan(config)
