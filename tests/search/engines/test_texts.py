"""What a run keeps of its test examples: some of them, cut short, and enough for the report."""

import json

import pytest
from tiny_world import write_world

from jaxmerge.evolution import evolve
from jaxmerge.report import examples, kinship
from jaxmerge.search.engines.texts import KEPT, LONGEST, Texts


@pytest.mark.parametrize("count", [1, 2, KEPT - 1, KEPT, KEPT + 1, 7 * KEPT + 3])
def test_places_are_spread_over_all_examples_and_bounded(count: int) -> None:
    texts = Texts([str(i) for i in range(count)], outputs=[f"o{i}" for i in range(count)])
    record = texts.record()
    assert len(record["places"]) == min(count, KEPT) and "answers" not in record
    assert record["places"] == sorted(set(record["places"])) and record["places"][-1] == count - 1
    assert record["prompts"] == [str(i) for i in record["places"]]
    assert record["outputs"] == [f"o{i}" for i in record["places"]]


def test_a_long_prompt_keeps_its_end_and_a_long_output_its_beginning() -> None:
    record = Texts(["a" * 999 + "question"], ["b" * LONGEST], ["answer" + "c" * 999]).record()
    assert record["prompts"][0].endswith("question") and record["outputs"][0].startswith("answer")
    assert record["answers"] == ["b" * LONGEST]
    assert all(len(texts[0]) == LONGEST for texts in (record["prompts"], record["answers"], record["outputs"]))


def test_a_run_keeps_texts_and_kinship_for_its_report(tmp_path) -> None:
    search = {"population": 4, "generations": 1, "algorithm": "random_search", "baselines": ["uniform"]}
    choice = {
        "name": "pick",
        "kind": "choice",
        "prompt": "{question}",
        "answer": "{answer}",
        "choices": ["{answer}", "w7 w8"],
        "data": {split: f"{split}.jsonl" for split in ("search", "validation", "test")},
    }
    config = write_world(tmp_path, search=search, objectives=[choice])
    run = evolve(config, tmp_path / "run")
    lines = (run.folder / "state" / "measurements.jsonl").read_text().split("\n")
    records = [json.loads(line) for line in lines if line]
    assert {record["split"] for record in records if "texts" in record} == {"test"}
    tested = [record for record in records if record["split"] == "test"]
    assert len(tested) == 5
    for record in tested:
        texts = record["texts"]["pick"]
        assert len(texts["prompts"]) == len(texts["outputs"]) == len(texts["answers"]) == 8
        right = [output == answer for output, answer in zip(texts["outputs"], texts["answers"], strict=True)]
        assert right == record["examples"]["pick"]
    assert isinstance(examples.read(run.folder, {"models": {"a": "", "b": ""}}, run.summary), tuple)
    found = kinship.read(run.folder)
    assert found.models == ("a", "b") and found.share == 1.0
    assert found.cosine[0][1] == found.cosine[1][0] and abs(found.cosine[0][0] - 1) < 1e-9
    assert '<section id="kinship">' in (run.folder / "report.html").read_text()
