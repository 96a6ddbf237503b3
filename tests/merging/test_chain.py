"""Merges that use each other by name: order, what is refused, and what stays on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.documents import Document, write_documents
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging import chain
from jaxmerge.merging.chain import plan_chain
from jaxmerge.merging.merge import merge
from jaxmerge.recipe.schema import load_recipes

INPUTS = Path(__file__).parents[1] / "golden" / "inputs"
BASE, FT1, FT2 = (str(INPUTS / name) for name in ("base", "ft1", "ft2"))


def linear(*models: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    merged = {"merge_method": "linear", "models": [{"model": m} for m in models], "parameters": {"weight": 1}}
    return named | merged | more


def delta(weight: float, *models: str, base: str = BASE, **more: Any) -> dict[str, Any]:
    recipe = linear(*models, **more)
    return recipe | {"merge_method": "task_arithmetic", "base_model": base, "parameters": {"weight": weight}}


def tensors(folder: Path) -> dict[str, bytes]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name).tobytes() for name in checkpoint.tensors}


def test_a_chain_is_its_merges_made_by_hand(tmp_path: Path) -> None:
    first = merge(linear(FT1, FT2), tmp_path / "first")
    second = merge(delta(0.5, str(first), FT1), tmp_path / "second")
    expected = merge(
        {
            "merge_method": "passthrough",
            "slices": [
                {"sources": [{"model": str(second), "layer_range": [0, 2]}]},
                {"sources": [{"model": str(first), "layer_range": [0, 4]}]},
            ],
        },
        tmp_path / "expected",
    )
    last = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "second", "layer_range": [0, 2]}]},
            {"sources": [{"model": "first", "layer_range": [0, 4]}]},
        ],
    }
    file = tmp_path / "recipe.yaml"
    # The output comes first, and what it uses uses what comes last.
    file.write_text(write_documents([last, delta(0.5, "first", FT1, name="second"), linear(FT1, FT2, name="first")]))
    out = merge(file, tmp_path / "out")
    assert tensors(out) == tensors(expected)
    assert (out / "config.json").read_bytes() == (expected / "config.json").read_bytes()
    assert (out / "mergekit_config.yml").read_text() == file.read_text()
    card = (out / "README.md").read_text()
    assert FT1.rsplit("/", 1)[1] in card and card.count("license:") == 3 and "- `first`" not in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "first", "out", "recipe.yaml", "second"]


def test_a_merge_may_be_the_base_and_the_tokenizer(tmp_path: Path) -> None:
    a, b, base = (str(INPUTS.parent / "inputs_tok" / name) for name in ("ftA", "ftB", "base"))
    first = merge(linear(a, b, tokenizer={"source": "union"}), tmp_path / "first")
    assert Checkpoint.open(first).info("model.embed_tokens.weight").shape[0] > 65

    def last(first: str) -> dict[str, Any]:
        return delta(0.7, b, base=first, tokenizer={"source": first, "tokens": {"w3": {"source": first}}})

    expected = merge(last(str(first)), tmp_path / "expected")
    out = merge([linear(a, b, name="first", tokenizer={"source": "union"}), last("first")], tmp_path / "out")
    assert tensors(out) == tensors(expected)
    assert (out / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"the merge 'first': tensor 'model.embed_tokens.weight' is \["):
        merge([linear(a, b, name="first", tokenizer={"source": "union"}), linear(base, "first")], tmp_path / "none")


def test_a_seed_is_that_of_every_merge(tmp_path: Path) -> None:
    def dare(name: str | None, *models: str) -> dict[str, Any]:
        merged = linear(*models, name=name, base_model=BASE, parameters={"weight": 0.5, "density": 0.5})
        return merged | {"merge_method": "dare_linear"}

    both = [dare("first", FT1, FT2), dare(None, "first", FT2)]
    out = merge(both, tmp_path / "out", seed=3)
    written = Document.read_all(out / "mergekit_config.yml")
    assert [document.data["jaxmerge"] for document in written] == [{"seed": 3}] * 2
    again = merge(out / "mergekit_config.yml", tmp_path / "again")
    assert tensors(again) == tensors(out) != tensors(merge(both, tmp_path / "other"))


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([linear("b", name="a"), linear("a", name="b"), linear("a")], ": merges use each other in a circle: "),
        ([linear("a", FT1, name="a"), linear("a")], ":4: models.0.model: the merge 'a' uses itself"),
        ([linear(FT1, name="a"), linear(FT2, name="a")], ":7: name: another merge is named 'a' too"),
        ([linear(FT1, name="a"), linear("a", "c")], ":10: models.1.model: c: no such folder"),
        ([linear(FT1), linear(FT2)], ":6: name: another merge lacks a name too"),
        ([linear(FT1, name="a"), linear(FT2)], ":1: name: no other merge uses 'a', and it is not the only one"),
        ([linear(FT1, name="a"), linear("a", wieght=1)], ":11: unknown key 'wieght'"),
        ([linear(FT1, name="a"), []], ": must be a mapping"),
    ],
)
def test_what_is_wrong_with_a_chain_is_named_by_its_line(documents: list[Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(write_documents(documents))
    with pytest.raises(InputError, match=f"recipe.yaml.*{message}") as failed:
        merge(file, tmp_path / "out")
    assert "\n" not in str(failed.value) and [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_late_merge_is_checked_before_the_first_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "write", lambda *_, **__: pytest.fail("a merge was made"))
    slices = [{"sources": [{"model": "first", "layer_range": [4, 8]}]}]
    deep = {"merge_method": "passthrough", "slices": slices}
    with pytest.raises(InputError, match=r"slices.0.sources.0.layer_range: ends at layer 8, but first has 6"):
        merge([linear(FT1, name="first"), deep], tmp_path / "out")


def test_what_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = chain.write

    def once(plan: Any, folder: Path, **options: Any) -> None:
        if written:
            raise CheckpointError(f"{written[0]}: a tensor holds NaN")
        written.append(folder)
        write(plan, folder, **options)

    monkeypatch.setattr(chain, "write", once)
    with pytest.raises(CheckpointError, match=r"^the merge 'first': a tensor holds NaN"):
        merge([linear(FT1, name="first"), linear("first", FT2)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_plans_all_and_makes_none(tmp_path: Path) -> None:
    plans = plan_chain(load_recipes([linear("first", FT1), linear(FT1, FT2, name="first", out_dtype="bfloat16")]))
    assert [plan.recipe.name for plan in plans] == ["first", None]
    assert plans[1].references == ("first", FT1)
    assert plans[0].nbytes * 2 == plans[1].nbytes
    assert json.loads((INPUTS / "ft1" / "config.json").read_text())["num_hidden_layers"] == 6
