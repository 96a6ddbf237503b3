"""The model card: front matter that parses, scores, recipe, licenses."""

import pytest
from ruamel.yaml import YAML

from jaxmerge.merging.card import Parent, stated_license
from jaxmerge.report.card import model_card


def _card(config, summary, parents, recipe="merge_method: dare_ties\n"):
    return model_card(
        "math + ja",
        parents=parents,
        recipe=recipe,
        summary=summary,
        config=config,
        examples={"maths_in_japanese": {"search": 96, "test": 500}},
    )


def _matter(card):
    _, matter, body = card.split("---\n", 2)
    return YAML(typ="safe").load(matter), body


def test_front_matter_parses_and_says_what_the_hub_reads(config, summary):
    parents = [Parent("math", "owner/math@v1", "apache-2.0"), Parent("ja", "ja", "apache-2.0")]
    matter, body = _matter(_card(config, summary, parents))
    assert matter["library_name"] == "transformers"
    assert matter["tags"] == ["merge", "jaxmerge"]
    assert matter["base_model"] == ["owner/math", "ja"]
    assert matter["license"] == "apache-2.0"
    assert body.startswith("\n# math + ja\n")


@pytest.mark.parametrize(
    ("licenses", "stated"), [(("mit", "llama3"), "other"), (("mit", None), "other"), ((None, None), None)]
)
def test_license_is_only_stated_where_the_parents_agree(config, summary, licenses, stated):
    parents = [Parent(f"p{i}", f"p{i}", text) for i, text in enumerate(licenses)]
    matter, body = _matter(_card(config, summary, parents))
    assert matter.get("license") == stated
    assert all((text or "not known here") in body for text in licenses)


def test_names_cannot_break_front_matter_or_table(config, summary):
    summary["baselines"]["a|b"] = summary["baselines"].pop("math")
    card = _card(config, summary, [Parent("x", "- : {odd}\n---\n#", "no")], recipe="note: '```'\n")
    matter, body = _matter(card)
    assert matter["base_model"] == ["- : {odd}\n---\n#"] or matter["base_model"][0].startswith("- : {odd}")
    assert "| a\\|b | " in body and "````yaml" in body


def test_repeated_layers_are_told(config, summary):
    sharing = {"layers": 9, "unique_layers": 6, "parameters": 9_500_000, "shared_parameters": 6_500_000}
    card = model_card("t", parents=[], recipe="", summary=summary, config=config, sharing=sharing)
    assert "Of its 9 layers 6 are different, but for scales. It has 9.5M parameters as it is; 6.5M would be" in card


def test_scores_data_and_search_are_told(config, summary):
    card = _card(config, summary, [Parent("math", "math")])
    for line in (
        "| evolved |  | 67.7% | 60.0% | 55.7 to 64.3 |",
        "| random_search | equal budget | 44.8% | 42.6% | 38.3 to 46.9 |",
        "  - test: `test.jsonl`, 500 examples",
        "- seed: 0",
        "- algorithm: CMA_ES",
        "merge_method: dare_ties",
    ):
        assert line in card.splitlines()
    assert "**+17.4 points** over random_search" in card


def test_stated_license_reads_front_matter_only(tmp_path):
    assert stated_license(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert stated_license(tmp_path) == "mit"
    (tmp_path / "README.md").write_text("license: mit\n")
    assert stated_license(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert stated_license(tmp_path) is None
