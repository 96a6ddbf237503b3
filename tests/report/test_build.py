"""The page: the answer first, whole, escaped, and without anything from outside."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_folder import KINSHIP, path_of

from jaxmerge.errors import InputError
from jaxmerge.report.build import build
from jaxmerge.report.run_data import recipe_table
from jaxmerge.report.sensitivity import sensitivity

VOID = {"meta", "br", "link", "img", "hr", "use", "path", "rect", "wbr"}


class Page(HTMLParser):
    """Text and elements of a page; fails where elements do not nest."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def labelled(self, text: str) -> list[str]:
        """The pictures whose label for screen readers has this in it."""
        return [label for label in self.labels if text in label]

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.text += " " if tag == "small" else ""
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name == "aria-label":
                self.labels.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)
        if tag not in VOID or tag in ("path", "rect", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID or tag in ("path", "rect", "use"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "div", "small", "li", "p", "dt", "dd", "text", "title") else ""

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def test_answer_comes_first_with_its_interval(finished):
    text = Page(build(finished)).text
    answer = "+17.4 points over random_search, the best baseline, on test data (60.0% against 42.6%)."
    assert f"{answer} 95% interval 11.8 to 23.0." in text
    rest = text.index(answer) + len(answer)
    assert rest < text.index("over the best parent") < text.index("Test scores are") < text.index("Search score over")
    for words in (
        "over the best parent math +59.8 points over math +59.8 points, better 95% interval 55.4 to 64.2",
        "over the best untuned merge ties +34.0 points over ties +34.0 points, better 95% interval 28.8 to 39.2",
        "+17.4 points over random_search +17.4 points, better 95% interval 11.8 to 23.0",
    ):
        assert words in text


def test_a_gain_that_may_be_none_is_not_called_one(make_run, summary):
    summary["comparisons"]["untuned"].update(difference=0.01, interval=[-0.01, 0.03])
    summary["comparisons"]["parent"].update(difference=-0.1, interval=[-0.2, -0.05])
    text = Page(build(make_run(summary=summary))).text
    assert "+1.0 points, not significant 95% interval −1.0 to 3.0" in text
    assert "−10.0 points, worse 95% interval −20.0 to −5.0" in text


@pytest.mark.parametrize("interval", [[-0.02, 0.05], [0.0, 0.05], [-0.05, 0.0]])
def test_an_interval_that_contains_zero_is_called_not_significant(make_run, summary, interval):
    summary["comparison"].update(difference=0.012, interval=interval)
    page = build(make_run(summary=summary))
    assert "Not significant: the 95% interval" in Page(page).text
    assert 'class="gain sure"' not in page.read_text()


def test_a_worse_merge_is_called_worse(make_run, summary):
    summary["comparison"].update(difference=-0.1, interval=[-0.15, -0.05])
    assert "−10.0 points against random_search" in (text := Page(build(make_run(summary=summary))).text)
    assert "The evolved merge is worse; 95% interval −15.0 to −5.0." in text


def test_without_test_data_no_gain_is_claimed(make_run, summary):
    summary.update(test_score=None, test_interval=None, comparison=None)
    summary["comparisons"] = dict.fromkeys(summary["comparisons"])
    for entry in summary["baselines"].values():
        entry.update(test_score=None, test_interval=None)
    text = Page(build(make_run(summary=summary))).text
    assert "No test score" in text and " points" not in text and "Test scores" not in text


def test_every_baseline_stands_in_the_table_by_kind(finished, summary):
    text = Page(build(finished)).text
    places = [text.index(word) for word in ("Parents", "Untuned merges", "random_search 44.8% 42.6%", "evolved 67.7%")]
    assert places == sorted(places)
    for name in summary["baselines"]:
        assert name in text


def test_recipe_is_drawn_with_numbers_and_constants_are_named(finished):
    page = Page(build(finished))
    for piece in ("−0.02", "1.72", "layers.3", "embed_tokens", "0.34", "The same throughout: lambda 1."):
        assert piece in page.text
    # lambda is the same everywhere.
    assert len(page.labelled("by expert and group")) == 2


def test_page_is_self_contained(finished):
    file = build(finished)
    source, page = file.read_text(encoding="utf-8"), Page(file)
    assert "http" not in source and "//" not in source.replace("<!doctype html>", "")
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "@import" not in source and "@font-face" not in source
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert set(re.findall(r"url\(#([^)]*)\)", source)) <= set(page.ids)


def test_ids_are_unique_and_colours_come_from_the_page(finished):
    file = build(finished)
    source, page = file.read_text(encoding="utf-8"), Page(file)
    assert len(page.ids) == len(set(page.ids))
    assert "#a1b2" not in source
    assert set(re.findall(r"var\(--([a-z]+)\)", source)) <= set(re.findall(r"--([a-z]+):", source))
    assert "prefers-color-scheme: dark" in source and 'name="viewport"' in source


def test_everything_from_the_run_is_escaped(make_run, config, summary, best):
    bad = "<script>alert('x')</script>$\\frac{1}{2}$"
    config["models"] = {bad: "models/math", "ja": "models/ja"}
    config["objectives"][0]["name"] = config["objectives"][0]["metric"] = bad
    summary["baselines"][bad] = summary["baselines"].pop("math")
    summary["comparison"]["baseline"] = summary["devices"] = bad
    summary["versions"][bad] = bad
    best["jaxmerge"]["experts"] = [bad, "<i>"]
    best["jaxmerge"]["groups"][1] = "</svg>"
    page = Page(build(make_run(config=config, summary=summary, best=best)))
    assert "script" not in page.tags and "i" in page.tags  # the legend's own
    assert page.text.count(bad) >= 6


def test_a_run_that_goes_on_shows_where_it_is(make_run, finished_history):
    history = finished_history[:100]
    page = Page(build(make_run(history=history)))
    best = max(line["score"] for line in history[:96] if line["score"] is not None)
    assert (
        f"Still running Best search score so far: {100 * best:.1f}%, after 96 candidates in 6 generations." in page.text
    )
    assert "results" not in page.ids and page.labelled("Search score over the candidates evaluated")


def test_a_race_that_goes_on_shows_the_best_of_those_that_stayed(make_run, finished_history):
    history = finished_history[:16]
    for line in history:
        line.update(score=0.5, seen={"maths_in_japanese": [1.0, 0.0]})
    history[3].update(score=1.0, seen={"maths_in_japanese": [1.0, None]}, left=1, estimate=0.4)
    page = Page(build(make_run(history=history)))
    assert "Best search score so far: 50.0%, after 16 candidates in 1 generation." in page.text


def test_a_run_without_a_single_score_still_has_a_page(make_run):
    page = Page(build(make_run(history=[])))
    assert "No candidate has a score yet." in page.text and "svg" not in page.tags


def test_same_run_gives_the_same_page(finished):
    first = build(finished).read_bytes()
    assert build(finished).read_bytes() == first
    assert not list(finished.glob("*.tmp"))


def test_a_run_of_200_generations_stays_small_and_quick(make_run, long_history, summary, best):
    folder = make_run(history=long_history, summary=summary, best=best)
    start = time.perf_counter()
    file = build(folder)
    assert time.perf_counter() - start <= 5
    assert file.stat().st_size <= 3_000_000


def test_scores_that_are_no_shares_are_not_percentages(make_run, config, summary):
    config["objectives"][0]["kind"] = "likelihood"
    summary.update(best_score=-1.25, test_score=-1.5)
    summary["comparison"].update(difference=0.0312, interval=[0.01, 0.05])
    text = Page(build(make_run(config=config, summary=summary))).text
    assert "+0.0312 nats" in text and "−1.2500" in text and "%" not in text.replace("95%", "").replace("80%", "")


@pytest.mark.parametrize("files", [{}, {"config.yaml": "a: 1\n"}, {"history.jsonl": ""}])
def test_a_foreign_folder_is_refused_and_left_alone(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"is not (a run's folder|the config of a run)"):
        build(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(files)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run's folder"):
        build(tmp_path / "nowhere")


def test_the_path_of_a_data_flow_is_drawn_hop_by_hop(make_run, summary):
    page = Page(build(make_run(summary=summary, best=path_of(14, 6))))
    assert page.labelled("Path of the data flow") and page.labelled("Scale of each hop")
    notes = re.findall(r"hop (\d+): (math|ja), layer (\d)", page.text)
    slices = [part["sources"][0] for part in path_of(14, 6)["slices"]]
    wanted = [(str(i), s["model"].removeprefix("models/"), str(s["layer_range"][0])) for i, s in enumerate(slices)]
    assert notes == wanted
    assert "path" in page.ids and "recipe" not in page.ids


def test_kinship_is_a_matrix_or_the_reason_why_there_is_none(make_run, summary):
    folder = make_run(summary=summary, kinship=KINSHIP)
    assert "math 1.00 −0.07 12.0% ja −0.07 1.00 34.0%" in Page(build(folder)).text
    (folder / "state" / "kinship.json").write_text(json.dumps(KINSHIP | {"cosine": [[1.0, -1e-4], [None, 1.0]]}))
    assert "math 1.00 0.00 12.0% ja – 1.00 34.0%" in Page(build(folder)).text
    (folder / "state" / "kinship.json").write_text('{"reason": "the run has a single expert"}')
    assert "Not shown: the run has a single expert." in Page(build(folder)).text
    (folder / "state" / "kinship.json").write_text("{")
    assert "Not shown: the run has no record of it." in Page(build(folder)).text


def test_examples_stand_side_by_side_with_what_was_gained_and_lost(finished):
    text = Page(build(finished)).text
    found = re.search(r"Right by the merge alone: (\d+), both: (\d+), a parent alone: (\d+), none: (\d+)\.", text)
    assert found and sum(map(int, found.groups())) == 500
    gained, lost = text.index("Gained by the merge"), text.index("Lost by the merge")
    first = text[gained:lost]
    assert re.search(r"問(\d+): .*? expected \d+ math ✗ 答えは\1です.*? ja ✗ .*? evolved ✓ 答えは", first)
    assert re.search(r"evolved ✗ 答えは", text[lost:])


def test_a_front_is_drawn_and_listed(make_run, config, summary, finished_history):
    config["objectives"].append({"name": "kept", "kind": "likelihood", "data": {"search": "f.jsonl"}})
    summary["front"] = [
        {"candidate": f"parameter:3:{i}", "search": {"maths_in_japanese": i / 10, "kept": -1 - i / 4}, "test": None}
        for i in range(5)
    ]
    summary["best"] = {"stage": "parameter", "generation": 3, "index": 2}
    page = Page(build(make_run(config=config, summary=summary)))
    assert page.labelled("Pareto front of maths_in_japanese and kept")
    assert "parameter:3:2 20.0% – −1.5000 –" in page.text
    assert page.text.count("parameter:3:") == 10  # a note and a row each


def test_time_is_told_by_stage(finished):
    text = Page(build(finished)).text
    assert "tokens per candidate 12,345" in text
    assert "parents and untuned merges 4.2 s search 2 min 05 s random search 1 min 41 s validation 12.0 s" in text


def test_what_matters_is_drawn_where_a_jacobian_said_it(make_run, summary, config, best):
    # Densities and weights of two experts in eight groups, as many genes.
    screening = {"forwards": 200, "rank_correlation": 0.5, "sensitivity": [0.01 * gene for gene in range(32)]}
    page = Page(build(make_run(summary=summary | {"screening": screening}, best=best)))
    assert "matters" in page.ids
    assert "ja, norm: 0.15" in page.text and "math, embed_tokens: 0.16" in page.text
    for other in (None, [0.1]):
        few = {"screening": screening | {"sensitivity": other}}
        assert sensitivity(few, config, recipe_table(best)) is None
